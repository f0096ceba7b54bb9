"""A model that is larger than the anchor gives up what matters least, and its layers are fitted again.

These may be blocks, heads, hidden units and directions of the residual stream. Layers are fitted in the order of the
pass (`shrinking`).
"""

from importlib.metadata import version

from transformers import PreTrainedModel

from transfuse.base.cache import NO_STORE, Store
from transfuse.base.hashing import tensors_digest
from transfuse.fusion.sizes.samples import SizeSamples
from transfuse.network.model import network
from transfuse.network.precision import stored_as
from transfuse.network.sizes import Sizes, block_settings
from transfuse.shrinking.depth import AllowedFn, any_blocks
from transfuse.shrinking.held_out import split_to_fit
from transfuse.shrinking.small_model import fitted


def smaller(
    anchor: PreTrainedModel,
    source: PreTrainedModel,
    name: str,
    samples: SizeSamples,
    sizes: Sizes,
    allowed: AllowedFn = any_blocks,
) -> tuple[PreTrainedModel, list[int]]:
    """Return a smaller model that computes nearly what the source does.

    Args:
        name: what to call the source in messages.
        sizes: all sizes of the smaller model.
        allowed: tells which blocks may stay together.

    Returns:
        The model, and the numbers of the blocks that stay.

    Raises:
        DataError: there are fewer than two samples.
    """
    large = network(source, samples.options.torch_device(), name)
    batches = samples.batches(name, anchor, large.model)
    store = NO_STORE
    if samples.cache is not None:
        store = Store(samples.cache).of(
            smaller=[
                tensors_digest(source.state_dict()),
                sizes.given(),
                block_settings(anchor.config, sizes.layers or 0),
            ],
            data=[tensors_digest(batch) for batch in batches],
            learns=samples.options.learns,
            transfuse=version("transfuse"),
        )
    parts = split_to_fit(batches, samples.options.learns)
    small, _, facts = fitted(large, sizes, parts, samples.progress, store, allowed)
    return stored_as(source.dtype, small.to("cpu")), facts["blocks"]
