"""Small random batches for any model, which show whether two models compute the same."""

from math import prod

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.network.patch_grid import pair, patch_grid

MAX_LENGTH = 12  # tokens of a text
IMAGES = 2
TEXTS = 2
IMAGE_INPUTS = ("pixel_values", "noise")


def model_inputs(model: PreTrainedModel, seed: int = 0) -> dict[str, Tensor]:
    """Return a small random batch of the inputs that a model takes, which may be one of its configuration's towers."""
    inputs = example_inputs(model.config, seed)
    takes_images = model.main_input_name == "pixel_values" and "pixel_values" in inputs
    return {name: inputs[name] for name in IMAGE_INPUTS if name in inputs} if takes_images else inputs


def example_inputs(config: PreTrainedConfig, seed: int = 0) -> dict[str, Tensor]:
    """Return a small random batch of the inputs that a model with this configuration takes.

    It has `pixel_values` [2, channel, height, width], `input_ids` [text, token] without padding, or both. An encoder
    and decoder also gets `decoder_input_ids`, and an encoder of sound gets `input_features` [2, mel, frame]. A model
    that masks patches at random also gets `noise` [2, patch], whose order decides which patches are masked.
    """
    generator = torch.Generator().manual_seed(seed)
    if hasattr(config, "vision_config") and hasattr(config, "text_config"):
        return _pixels(config.vision_config, generator) | _texts(config.text_config, generator)
    if hasattr(config, "image_size"):  # before texts, since BEiT's configuration has a vocabulary, too
        return _pixels(config, generator)
    if hasattr(config, "num_mel_bins"):
        return {**_sounds(config, generator), "decoder_input_ids": _texts(config, generator)["input_ids"]}
    inputs = _texts(config, generator)
    if config.is_encoder_decoder:
        inputs["decoder_input_ids"] = _texts(config, generator)["input_ids"]
    return inputs


def _texts(config: PreTrainedConfig, generator: torch.Generator) -> dict[str, Tensor]:
    """Return texts without special tokens except the end, and a single text if there is no padding token."""
    length = min(MAX_LENGTH, getattr(config, "max_position_embeddings", None) or MAX_LENGTH)
    padding, beginning, end = (getattr(config, f"{name}_token_id", None) for name in ("pad", "bos", "eos"))
    ends = end if isinstance(end, list) else [end]
    special = {*ends}.union(*(value if isinstance(value, list) else [value] for value in (padding, beginning)))
    ordinary = torch.tensor([token for token in range(config.vocab_size) if token not in special] or [0])
    texts = 1 if padding is None and not hasattr(config, "num_mel_bins") else TEXTS
    ids = ordinary[torch.randint(len(ordinary), (texts, length), generator=generator)]
    last = next((token for token in ends if token is not None), None)
    if last is not None and last < config.vocab_size:
        ids[:, -1] = last
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _pixels(config: PreTrainedConfig, generator: torch.Generator) -> dict[str, Tensor]:
    pixels = torch.randn(IMAGES, config.num_channels, *pair(config.image_size), generator=generator)
    if not hasattr(config, "mask_ratio"):
        return {"pixel_values": pixels}
    return {"pixel_values": pixels, "noise": mask_noise(config, IMAGES, generator)}


def mask_noise(config: PreTrainedConfig, images: int, generator: torch.Generator) -> Float[Tensor, "image patch"]:
    """Return random numbers whose order decides which patches of each image a model masks."""
    return torch.rand(images, prod(patch_grid(config)), generator=generator)


def _sounds(config: PreTrainedConfig, generator: torch.Generator) -> dict[str, Tensor]:
    """Return spectrograms of the only length that Whisper takes: the second convolution halves it."""
    frames = 2 * config.max_source_positions
    return {"input_features": torch.randn(TEXTS, config.num_mel_bins, frames, generator=generator)}
