"""The token IDs in config.json that models read, and so change what they compute."""

import re

TOKEN_IDS = re.compile(r"\w+_token_(id|index)")  # read by generation, by tokenizers and by the models below
# Positions are counted from the ID of the padding token.
POSITIONS_AFTER_PADDING = ("roberta", "xlm-roberta", "camembert", "roberta-prelayernorm", "mpnet")
TOKEN_IDS_READ = {
    "clip_text_model": ("eos_token_id",),
    **dict.fromkeys(("t5", "bart", "marian", "whisper"), ("eos_token_id", "pad_token_id", "decoder_start_token_id")),
    "mbart": ("eos_token_id", "pad_token_id"),
    **dict.fromkeys(POSITIONS_AFTER_PADDING, ("pad_token_id",)),
}
LAST_TOKEN_CLASSIFIERS = (  # model types whose classifier reads the last token that is not padding
    "gpt2",
    "gpt_neox",
    "llama",
    "mistral",
    "mixtral",
    "qwen2",
    "qwen3",
    "qwen3_moe",
    "phi3",
    "gemma2",
    "gemma3_text",
    "olmo2",
    "olmo",
    "smollm3",
    "gemma",
    "starcoder2",
    "phi",
    "gptj",
    "stablelm",
    "falcon",
    "gpt_oss",
    "qwen3_next",
    "qwen3_5_text",
)
CLASSIFIER = "ForSequenceClassification"


def reads_token_id(name: str, model_type: str, architecture: str | None) -> bool:
    """Return whether a model reads the token ID of a field.

    Args:
        architecture: the name of its class; None: any class of its type.
    """
    is_classifier = architecture is None or CLASSIFIER in architecture
    reads_padding = model_type in LAST_TOKEN_CLASSIFIERS and is_classifier
    return name in TOKEN_IDS_READ.get(model_type, ("pad_token_id",) if reads_padding else ())
