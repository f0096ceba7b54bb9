"""How much memory a run may take, and how many samples at once that allows.

What a batch takes grows with its tokens, and with tokens times vocabulary where scores are made, not with its samples:
twenty texts of 3,700 tokens take 23 GB where a hundred short ones take a tenth of one. All estimates here are of the
order of what is measured, not bounds; where memory ends before they say, `run_in_parts` goes on with half as much.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import psutil
import torch
from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.base.batch import Batch, IndexedBatch, batch_size, group_by_length
from transfuse.base.sizes import format_bytes
from transfuse.errors import ConfigError

BATCH_BYTES = 2**30  # bytes that the activations of a batch may take, where there is room
SCORES = 2**26  # scores, tokens by vocabulary, that may be made at once
SHARE = 4  # of what is free, a batch may take the fourth part
LARGEST = 2**62  # bytes that a system can be told of
COPIES = 8  # of the scores of a text that several models answer
NUMBER = 4  # bytes of a number in single precision
FIRST, SECOND = 10, 3  # numbers of the stream's width and of the hidden units' that are alive for a token
LAYER, UNITS = 16, 4  # the same in each layer, where gradients are to follow

ALLOWED: ContextVar[int | None] = ContextVar("ALLOWED", default=None)  # bytes that `memory_limit` allows

T = TypeVar("T")


@contextmanager
def memory_limit(memory: int | None, device_memory: int | None = None) -> Iterator[None]:
    """Inside, this process takes no more memory than so many bytes, on the host and on its GPU.

    An allocation beyond raises what the machine raises when its memory ends. Without limits on the system (macOS,
    Windows), only the GPU's is kept.

    Raises:
        ConfigError: it takes more already.
    """
    if device_memory is not None and torch.cuda.is_available():
        whole = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, device_memory / whole))
    if memory is None:
        yield
        return
    torch.ones(2**20).sum()  # threads start before their stacks are counted
    taken = psutil.Process().memory_info()
    if taken.rss > memory:
        raise ConfigError(f"max-memory: this process takes {format_bytes(taken.rss)} before it begins; allow more")
    try:
        import resource

        before = resource.getrlimit(resource.RLIMIT_DATA)
    except (ImportError, AttributeError):
        yield
        return
    data = getattr(taken, "data", taken.rss)
    limit = min(data + memory - taken.rss, LARGEST if before[1] < 0 else before[1])
    resource.setrlimit(resource.RLIMIT_DATA, (limit, before[1]))
    token = ALLOWED.set(memory)
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ConfigError(f"max-memory: this job takes more than {format_bytes(memory)}; allow more") from error
    finally:
        ALLOWED.reset(token)
        resource.setrlimit(resource.RLIMIT_DATA, before)


def available_bytes() -> int:
    """Memory that is free now, for each of the processes of this run on this machine."""
    return int(psutil.virtual_memory().available) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def free_bytes(device: torch.device) -> int:
    """Memory that may still be taken where a model runs."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = available_bytes()
    allowed = ALLOWED.get()
    return free if allowed is None else max(0, min(free, allowed - psutil.Process().memory_info().rss))


def check_free_memory(needed: int, device: torch.device, what: str, warn: Callable[[str], None]) -> None:
    """Say what a job takes where that is more than is free.

    Raises:
        ConfigError: more than --max-memory allows.
    """
    free = free_bytes(device)
    if needed <= free:
        return
    if ALLOWED.get() is not None:
        raise ConfigError(
            f"max-memory: {what} takes about {format_bytes(needed)}, {format_bytes(free)} are left; allow more"
        )
    warn(f"warning: {what} takes about {format_bytes(needed)} of memory, {format_bytes(free)} are free")


def tokens_at_once(model: PreTrainedModel, longest: int = 512, gradients: bool = False) -> int:
    """Tokens, padding included, that a batch of a model may hold.

    Args:
        longest: tokens of a sample, which each token may look at.
        gradients: whether every layer's activations stay for a backward pass.
    """
    room = min(BATCH_BYTES, free_bytes(model.device) // SHARE)
    return max(1, int(room // token_bytes(model.config, longest, gradients)))


def token_bytes(config: PreTrainedConfig, longest: int, gradients: bool = False) -> int:
    """Bytes that a token's activations take."""
    width, units, heads, layers = (_largest(config, names) for names in (WIDTHS, HIDDEN, HEADS, LAYERS))
    units = units or 4 * width
    eager = getattr(config, "_attn_implementation", None) == "eager"
    scores = (2 * heads if eager else 1) * longest  # attention masks, or what is masked
    alive = layers * (LAYER * width + UNITS * units + (scores if eager else 0)) if gradients else 0
    return NUMBER * (FIRST * width + SECOND * units + scores + alive)


def fitting_parts(models: Sequence[PreTrainedModel], batch: Batch, gradients: bool = False) -> Iterator[IndexedBatch]:
    """Yield parts of a batch that each of these models has room for: texts alike in length, or a few images."""
    longest = max(tokens_per_sample(model.config, batch) for model in models)
    tokens = min(tokens_at_once(model, longest, gradients) for model in models)
    if "attention_mask" in batch:
        yield from group_by_length(batch, tokens)
        return
    for places in torch.arange(batch_size(batch)).split(max(1, tokens // longest)):
        yield places, {name: values[places.to(values.device)] for name, values in batch.items()}


def check_sample(model: PreTrainedModel, example: Batch, gradients: bool = False) -> None:
    """Raise `ConfigError` where --max-memory leaves no room for the longest sample."""
    longest = tokens_per_sample(model.config, example)
    needed = longest * token_bytes(model.config, longest, gradients)
    labels = example.get("labels")
    if labels is not None and labels.ndim == 2:
        needed += COPIES * NUMBER * longest * max(_largest(model.config, ("vocab_size",)), 1)
    free = free_bytes(model.device)
    if ALLOWED.get() is not None and needed > free:
        raise ConfigError(
            f"max-memory: a sample of {longest} tokens takes about {format_bytes(needed)},"
            f" {format_bytes(free)} are left; allow more, or shorten the samples"
        )


def samples_at_once(model: PreTrainedModel, example: Batch, wanted: int, gradients: bool = False) -> int:
    """Return how many samples as long as the one in `example` may be taken at once: `wanted`, or fewer.

    Args:
        example: a batch of the longest sample.
    """
    longest = tokens_per_sample(model.config, example)
    count = tokens_at_once(model, longest, gradients) // longest
    labels = example.get("labels")
    if labels is not None and labels.ndim == 2:
        count = min(count, SCORES // (longest * max(_largest(model.config, ("vocab_size",)), 1)))
    return max(1, min(wanted, count))


def logits_at_once(model: PreTrainedModel) -> int:
    """Scores that may be made at once and looked at: in single precision, their logarithms, and both in double."""
    return max(2**16, min(2**23, free_bytes(model.device) // (SHARE * 6 * NUMBER)))


def tokens_per_sample(config: PreTrainedConfig, batch: Batch) -> int:
    """Tokens of a sample, padding included: of a text, or of an image's patches."""
    if "input_ids" in batch:
        return int(batch["input_ids"].shape[1])
    patch = _largest(config, ("patch_size",))
    height, width = batch["pixel_values"].shape[-2:]
    return 1 + (height // patch) * (width // patch) if patch else 1


def run_in_parts(work: Callable[[Batch], T], parts: Callable[[Batch], list[Batch]], batch: Batch) -> list[T]:
    """What comes of a batch, whole or, where memory is short, in parts.

    Raises:
        RuntimeError: a single sample takes more than there is.
    """
    try:
        return [work(batch)]
    except (MemoryError, RuntimeError) as error:
        smaller = parts(batch) if is_out_of_memory(error) else []
        if len(smaller) < 2:
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return [found for part in smaller for found in run_in_parts(work, parts, part)]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory has ended."""
    text = str(error)
    return isinstance(error, MemoryError) or "out of memory" in text or "allocate memory" in text


WIDTHS = ("hidden_size", "d_model", "n_embd", "dim")
HIDDEN = ("intermediate_size", "moe_intermediate_size", "n_inner", "d_ff", "hidden_dim", "ffn_dim")
HEADS = ("num_attention_heads", "n_head", "num_heads", "n_heads")
LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")


def _largest(config: Any, names: tuple[str, ...]) -> int:
    """The largest of these entries, those of towers included; zero where there is none."""
    values = config.to_dict() if isinstance(config, PreTrainedConfig) else config
    own = [values[name] for name in names if isinstance(values.get(name), int)]
    inner = [_largest(each, names) for each in values.values() if isinstance(each, Mapping)]
    return max([*own, *inner], default=0)
