"""The memory that a run may use, and the batch sizes that fit in it.

The memory of a batch grows with its tokens, and with tokens times vocabulary size where logits are computed: twenty
texts of 3,700 tokens take 23 GB, a hundred short ones a tenth of one. Estimates here have the right order of magnitude
but are not bounds; `in_parts.run_in_parts` cuts a batch that does not fit.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import psutil
import torch
from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.base.batch import Batch, IndexedBatch, batch_size, group_by_length, is_labeled_per_sample
from transfuse.base.counted import counted
from transfuse.base.distributed import process_group
from transfuse.base.memory_limit import (
    allowed_bytes,
    limit_for,
    remaining_bytes,
    remaining_device_bytes,
)
from transfuse.base.sizes import format_bytes
from transfuse.errors import MemoryLimitError

BATCH_BYTES = 2**30  # largest activations of a batch
MAX_LOGITS = 2**26  # largest number of logits, tokens times vocabulary size, computed at once
FREE_SHARE = 4  # a batch may take one fourth of the free memory
LOGIT_COPIES = 8  # copies of a text's logits that are alive while several models predict
FLOAT_BYTES = 4  # bytes of a number in single precision
FLOAT64_BYTES = 8
STREAM_COPIES = 10  # vectors of the width of the residual stream that are alive for a token
HIDDEN_COPIES = 3  # vectors of the width of the hidden layer that are alive for a token
LAYER_STREAM_COPIES = 16  # the same in each layer, where gradients follow
LAYER_HIDDEN_COPIES = 4

# What each cache may hold, in bytes. Contents that do not fit are computed again, or wait in files; no result depends
# on it.
CACHES = {
    "prepared samples": 2**28,  # calibration samples that are passed over once or twice
    "prepared images": 2**31,  # images between two epochs of fine-tuning
    "alignment evidence": 2**28,  # evidence about spaces, between two rounds of coordinate descent
    "candidate predictions": 2**27,  # the parents' predictions, while candidate alignments are compared
    "parent predictions": 2**28,  # the parents' predictions on batches that recur in training
    # The parents' activations on batches that recur in training, or while layers are fitted:
    "parent activations": 2**30,
    "idle states": 2**31,  # states of a training while it trains another start
    "block outputs": 2**30,  # outputs inside blocks, while layers are fitted
}
CACHE_SHARE = 16  # with --max-memory, a cache may take a sixteenth of the limit

WIDTHS = ("hidden_size", "d_model", "n_embd", "dim")
HIDDEN = ("intermediate_size", "moe_intermediate_size", "n_inner", "d_ff", "hidden_dim", "ffn_dim", "ffn_hidden_size")
HEADS = ("num_attention_heads", "n_head", "num_heads", "n_heads")
LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")


def cache_bytes(content: str) -> int:
    """Return how many bytes the cache of a content may hold."""
    limit = allowed_bytes()
    return CACHES[content] if limit is None else min(CACHES[content], limit // CACHE_SHARE)


def available_bytes() -> int:
    """Return the free host memory in bytes for each process of this run on this machine."""
    return int(psutil.virtual_memory().available) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def free_bytes(device: torch.device) -> int:
    """Return the bytes that may still be allocated on `device`, within the limit of `memory_limit`."""
    if device.type == "cuda":
        free, remaining = int(torch.cuda.mem_get_info(device)[0]), remaining_device_bytes(device)
    else:
        free, remaining = available_bytes(), remaining_bytes()
    return free if remaining is None else min(free, remaining)


def check_free_memory(needed: int, device: torch.device, task: str, warn: Callable[[str], None]) -> None:
    """Warn if a task needs more memory than is free.

    Args:
        needed: bytes.
        task: what needs them, for the message.

    Raises:
        MemoryLimitError: the task needs more than --max-memory or --max-device-memory leaves.
    """
    left = remaining_device_bytes(device) if device.type == "cuda" else remaining_bytes()
    if left is not None and needed > left:
        option = _limiting_option(device)
        raise MemoryLimitError(
            f"{option}: {task} takes about {format_bytes(limit_for(needed, device))}; allow at least that much"
        )
    warn_if_short(needed, device, task, warn)


def warn_if_short(needed: int, device: torch.device, task: str, warn: Callable[[str], None]) -> None:
    """Warn if a task needs more bytes than are free; arguments are as in `check_free_memory`."""
    free = free_bytes(device)
    if needed > free:
        warn(f"warning: {task} takes about {format_bytes(needed)} of memory, {format_bytes(free)} are free")


def tokens_at_once(model: PreTrainedModel, longest: int, gradients: bool = False) -> int:
    """Return how many tokens, padding included, a batch of a model may hold.

    Args:
        longest: tokens of the longest sample, which each of its tokens may attend to.
        gradients: whether the activations of all layers are kept for a backward pass.
    """
    memory = min(BATCH_BYTES, free_bytes(model.device) // FREE_SHARE)
    return max(1, int(memory // token_bytes(model.config, longest, gradients)))


def token_bytes(config: PreTrainedConfig, longest: int, gradients: bool = False) -> int:
    """Return an estimate of the bytes of a token's activations; arguments are as in `tokens_at_once`."""
    width = _largest(config, WIDTHS)
    hidden = _largest(config, HIDDEN) or 4 * width
    layers = _largest(config, LAYERS)
    weights = attention_weights(config, longest)
    saved = layers * (LAYER_STREAM_COPIES * width + LAYER_HIDDEN_COPIES * hidden + weights) if gradients else 0
    attention = weights or longest  # the mask alone
    return FLOAT_BYTES * (STREAM_COPIES * width + HIDDEN_COPIES * hidden + attention + saved)


def attention_weights(config: PreTrainedConfig, longest: int) -> int:
    """Return how many attention weights of a token are alive in a layer; none if they are never in memory as a whole.

    Args:
        longest: tokens of the longest sample, which each of its tokens may attend to.
    """
    eager = getattr(config, "_attn_implementation", None) == "eager"
    return 2 * _largest(config, HEADS) * longest if eager else 0


def fitting_parts(models: Sequence[PreTrainedModel], batch: Batch, gradients: bool = False) -> Iterator[IndexedBatch]:
    """Yield parts of a batch that fit in memory for each of `models`: texts of similar length, or images in order."""
    longest = max(tokens_per_sample(model.config, batch) for model in models)
    tokens = min(tokens_at_once(model, longest, gradients) for model in models)
    if "attention_mask" in batch:
        yield from group_by_length(batch, tokens)
        return
    for indices in torch.arange(batch_size(batch)).split(max(1, tokens // longest)):
        yield indices, {name: values[indices.to(values.device)] for name, values in batch.items()}


def check_sample(model: PreTrainedModel, example: Batch) -> None:
    """Check that a limit leaves enough memory for the longest sample, the one in `example`.

    Raises:
        MemoryLimitError: it does not.
    """
    longest = tokens_per_sample(model.config, example)
    needed = longest * token_bytes(model.config, longest)
    if _has_token_labels(example):
        needed += LOGIT_COPIES * FLOAT_BYTES * longest * _outputs_per_token(model)
    free = free_bytes(model.device)
    if needed > free and (option := _limiting_option(model.device)):
        raise MemoryLimitError(
            f"{option}: a sample of {counted(longest, 'token')} takes about {format_bytes(needed)},"
            f" {format_bytes(free)} are left; allow more, or shorten the samples"
        )


def samples_at_once(model: PreTrainedModel, example: Batch, requested: int, gradients: bool = False) -> int:
    """Return how many samples of the length of the one in `example` may be processed at once: `requested`, or fewer.

    All processes of a run must call this together. They get the number of the one with the least memory, so that they
    cut the same batches.
    """
    longest = tokens_per_sample(model.config, example)
    count = tokens_at_once(model, longest, gradients) // longest
    if _has_token_labels(example):
        count = min(count, MAX_LOGITS // (longest * _outputs_per_token(model)))
    return min(process_group().all_gather(max(1, min(requested, count))))


def logits_at_once(model: PreTrainedModel) -> int:
    """Return how many logits may be computed at once, with their log-probabilities, in single and double precision."""
    return max(2**16, min(2**23, free_bytes(model.device) // (FREE_SHARE * 6 * FLOAT_BYTES)))


def tokens_per_sample(config: PreTrainedConfig, batch: Batch) -> int:
    """Return the number of tokens of a sample: a text's, an image's patches, or a sound's frames."""
    if "input_ids" in batch:
        return int(batch["input_ids"].shape[1])
    if "input_features" in batch:
        return int(batch["input_features"].shape[-1])
    patch = _largest(config, ("patch_size",))
    height, width = batch["pixel_values"].shape[-2:]
    return 1 + (height // patch) * (width // patch) if patch else 1


def token_count(config: PreTrainedConfig, batch: Batch) -> int:
    """Return the number of tokens of a batch, without padding."""
    if "attention_mask" in batch:
        return int(batch["attention_mask"].sum())
    return batch_size(batch) * tokens_per_sample(config, batch)


def _limiting_option(device: torch.device) -> str | None:
    """Return the option that limits the memory of a device; None if none does."""
    if device.type == "cuda":
        return None if remaining_device_bytes(device) is None else "max_device_memory"
    return None if allowed_bytes() is None else "max_memory"


def _has_token_labels(batch: Batch) -> bool:
    return not is_labeled_per_sample(batch)


def _outputs_per_token(model: PreTrainedModel) -> int:
    """Return how many logits a token has: one per token of the vocabulary, or one per class."""
    if model.get_output_embeddings() is None:
        return max(model.config.num_labels, 1)
    return max(_largest(model.config, ("vocab_size",)), 1)


def _largest(config: Any, names: tuple[str, ...]) -> int:
    """Return the largest entry of a configuration and its sub-configurations under one of `names`; zero if none."""
    entries = config.to_dict() if isinstance(config, PreTrainedConfig) else config
    values = [entries[name] for name in names if isinstance(entries.get(name), int)]
    nested = [_largest(entry, names) for entry in entries.values() if isinstance(entry, Mapping)]
    return max([*values, *nested], default=0)
