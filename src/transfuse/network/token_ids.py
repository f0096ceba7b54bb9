"""The token IDs in config.json that models read, and so change what they compute."""

import re
from collections.abc import Iterable

from transformers import PreTrainedModel

from transfuse.errors import ConfigError

TOKEN_IDS = re.compile(r"\w+_token_(id|index)")  # read by generation, by tokenizers and by the models below
# Positions are counted from the ID of the padding token.
POSITIONS_AFTER_PADDING = ("roberta", "xlm-roberta", "camembert", "roberta-prelayernorm", "mpnet", "esm")
TWO_STACKS = ("t5", "mt5", "umt5", "bart", "pegasus", "m2m_100", "marian", "whisper")
TOKEN_IDS_READ = {
    "clip_text_model": ("eos_token_id",),
    **dict.fromkeys(TWO_STACKS, ("eos_token_id", "pad_token_id", "decoder_start_token_id")),
    "mbart": ("eos_token_id", "pad_token_id"),
    **dict.fromkeys(POSITIONS_AFTER_PADDING, ("pad_token_id",)),
    "esm": ("pad_token_id", "mask_token_id"),
}
LAST_TOKEN_CLASSIFIERS = (  # model types whose classifier reads the last token that is not padding
    "gpt2",
    "gpt_neo",
    "opt",
    "bloom",
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
    "olmo3",
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
SAME_PADDING = "if both pad texts with the same token, set it to that token's number in both"
ENCODERS = ("T5EncoderModel", "T5ForTokenClassification")  # T5, mT5 and UMT5: other classes of theirs read token IDs


def reads_token_id(name: str, model_type: str, architecture: str | None) -> bool:
    """Return whether a model reads the token ID of a field.

    Args:
        architecture: the name of its class; None: any class of its type.
    """
    if architecture is not None and architecture.endswith(ENCODERS):
        return False
    is_classifier = architecture is None or CLASSIFIER in architecture
    reads_padding = model_type in LAST_TOKEN_CLASSIFIERS and is_classifier
    return name in TOKEN_IDS_READ.get(model_type, ("pad_token_id",) if reads_padding else ())


def copy_padding_token(model: PreTrainedModel, others: Iterable[PreTrainedModel]) -> None:
    """Copy the padding token of a model to others without one that read its batches.

    Args:
        model: the model that the batches are prepared for, which may have got the token from its tokenizer.

    Raises:
        ConfigError: a decoder that classifies pads with another token, so it would take this padding for text.
    """
    pad = getattr(model.config, "pad_token_id", None)
    for other in others if pad is not None else ():
        own = getattr(other.config, "pad_token_id", None)
        if own is None or own < 0:
            other.config.pad_token_id = pad
        elif own != pad and other.config.model_type in LAST_TOKEN_CLASSIFIERS and CLASSIFIER in type(other).__name__:
            raise ConfigError(
                f"pad_token_id is {pad} in one model and {own} in another that reads its texts; {SAME_PADDING}"
            )
