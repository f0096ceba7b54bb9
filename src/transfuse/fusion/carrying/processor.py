"""Whose processor and generation settings a fine-tune has that was carried to another base."""

import copy

from transformers import PreTrainedModel

from transfuse.checkpoint.reading.load import Model, local_directory
from transfuse.data.tasks import reads_texts
from transfuse.data.text.saved_tokenizer import has_tokenizer

TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")  # fields of config.json that go with a tokenizer


def processor_source(new_base: Model, tuned: Model, architecture: str) -> Model:
    """Return the model whose processor prepares the samples and is saved with the result.

    All models share one vocabulary, so the tokenizer is that of the tuned model, with the chat template and the special
    tokens that it was tuned with. Images are scaled as the new base was trained.

    Args:
        architecture: the class of the tuned model.
    """
    if isinstance(tuned, PreTrainedModel) or not reads_texts(architecture):
        return new_base
    return tuned if has_tokenizer(local_directory(tuned, "allow")) else new_base


def with_generation_of(tuned: PreTrainedModel, model: PreTrainedModel) -> PreTrainedModel:
    """Give a model the generation settings and the special tokens of the tuned model, and return it."""
    model.config = copy.deepcopy(model.config)
    for name in TOKENS:
        if hasattr(tuned.config, name):
            setattr(model.config, name, getattr(tuned.config, name))
    if tuned.can_generate():
        model.generation_config = copy.deepcopy(tuned.generation_config)
    return model
