"""Weights that are not saved, but computed whenever a model is loaded, such as the sinusoids of Marian."""

from transformers import PreTrainedModel


def freeze_unsaved(model: PreTrainedModel) -> PreTrainedModel:
    """Freeze the weights of a model that are not saved, and return the model: what they learn would be lost."""
    unsaved = model._keys_to_ignore_on_save or ()
    for name, parameter in model.named_parameters():
        if name in unsaved:
            parameter.requires_grad_(False)
    return model
