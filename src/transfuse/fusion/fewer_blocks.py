"""A model with more blocks than the anchor gives up those that matter least, and its layers are fitted again.

The last linear map in front of each gap is fitted to the stream behind the gap, and all other layers are fitted in the
order of the pass (`shrinking`).
"""

from functools import partial
from importlib.metadata import version

from jaxtyping import Bool
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.base.cache import NO_STORE, Store
from transfuse.base.hashing import digest
from transfuse.fusion.block_order import has_in_order
from transfuse.fusion.depth_samples import DepthSamples
from transfuse.network.model import network
from transfuse.network.precision import stored_as
from transfuse.network.sizes import Sizes
from transfuse.network.target_sizes import target_sizes
from transfuse.shrinking.plan import fitted
from transfuse.shrinking.split import split_to_fit


def with_fewer_blocks(
    anchor: PreTrainedModel,
    source: PreTrainedModel,
    name: str,
    samples: DepthSamples,
    allowed: Bool[Tensor, "own place"],
) -> tuple[PreTrainedModel, list[int]]:
    """Return a model with as many blocks as the anchor that computes nearly what the source does.

    Args:
        name: what to call the source in messages.
        allowed: which of its blocks may take each place among the anchor's.

    Returns:
        The model, and the numbers of the blocks that stay.

    Raises:
        ConfigError: there are fewer than two samples.
    """
    large = network(source, samples.options.torch_device(), name)
    batches = samples.batches(name, anchor, large.model)
    store = NO_STORE
    if samples.cache is not None:
        store = Store(samples.cache).of(
            fewer_blocks=[digest("", source.state_dict()), allowed.tolist()],
            data=[digest("", batch) for batch in batches],
            learns=samples.options.learns,
            transfuse=version("transfuse"),
        )
    sizes = target_sizes(source.config, Sizes(layers=allowed.shape[1]), name)
    parts = split_to_fit(batches, samples.options.learns)
    small, _, facts = fitted(large, sizes, parts, samples.progress, store, partial(has_in_order, allowed))
    return stored_as(source.dtype, small.to("cpu")), facts["blocks"]
