"""Recomputation of activations, for models of which not even one sample can be trained on in memory."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from transfuse.base.batch import Batch
from transfuse.base.budget import FREE_SHARE, free_bytes, token_bytes, tokens_per_sample
from transfuse.network.precision import mixed_precision


def needs_recomputation(model: PreTrainedModel, batches: Sequence[Batch]) -> bool:
    """Return whether the activations of the longest sample, kept for the gradients, take too much memory."""
    widest = max(batches, key=lambda batch: batch["input_ids"].shape[1] if "input_ids" in batch else 0)
    longest = tokens_per_sample(model.config, widest)
    return longest * token_bytes(model.config, longest, gradients=True) > free_bytes(model.device) // FREE_SHARE


@contextmanager
def recomputed(model: PreTrainedModel, blocks: Iterable[nn.Module]) -> Iterator[None]:
    """Keep only the inputs of the blocks that run in this context. The backward pass runs them again.

    Models have such a switch of their own, which also needs training mode and so turns dropout on.
    """
    blocks = list(blocks)
    # A second run of a block must not extend the keys of the first. Parts of a model may have a configuration each.
    configs = {id(part.config): part.config for part in model.modules() if isinstance(part, PreTrainedModel)}
    cached = [config for config in configs.values() if getattr(config, "use_cache", False)]
    for config in cached:
        config.use_cache = False

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Return the contexts of the first and of the second run."""
        return mixed_precision(model.device), mixed_precision(model.device)

    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, context_fn=contexts)
    try:
        yield
    finally:
        for config in cached:
            config.use_cache = True
        for block in blocks:
            del block.forward
