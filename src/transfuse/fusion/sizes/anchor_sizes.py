"""Models whose sizes are not those of the anchor, brought to them before they are aligned.

What a model has more of, it gives up (`smaller`). What it has less of is added without a change of its function: widths
(`wider`), and blocks that do nothing (`idle_blocks`). Which blocks of two models belong together is decided by their
streams on samples, and by even spacing without samples.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.base.batch import cast, on_device
from transfuse.base.counted import counted_sizes
from transfuse.checkpoint.record.resized import GETS_WIDER, GIVES_UP
from transfuse.errors import ConfigError
from transfuse.fusion.sizes.block_order import best_places, evenly_spaced, has_in_order
from transfuse.fusion.sizes.changes import changeable_sizes
from transfuse.fusion.sizes.checks import check_widths, checked_blocks, least_sizes, only_widths
from transfuse.fusion.sizes.idle_blocks import with_idle_blocks
from transfuse.fusion.sizes.samples import SizeSamples
from transfuse.fusion.sizes.smaller import smaller
from transfuse.fusion.sizes.wider import wider
from transfuse.network.inputs import model_inputs
from transfuse.network.model import converted
from transfuse.network.outputs import model_output
from transfuse.network.precision import as_dtype, compute_dtype
from transfuse.network.reconfigured import empty_like
from transfuse.network.sizes import Sizes, block_settings, heads_make_width, resized, sizes_of
from transfuse.shrinking.depth import AllowedFn, any_blocks

TOLERANCE = 1e-3  # largest change of an output, relative to the largest output, that is rounding


def with_anchor_sizes(
    models: Sequence[PreTrainedModel],
    names: Sequence[str],
    samples: SizeSamples | None = None,
    tell: Callable[[str], None] = lambda line: None,
    widths: bool = True,
    like: int = 0,
) -> list[PreTrainedModel]:
    """Return models with the blocks, heads, hidden units and width of one of them, such as the anchor.

    Smaller models keep their functions, and larger models keep them nearly.

    Args:
        models: models whose tensors may be empty. A model of another kind than the anchor is returned as it is.
        names: what to call them in messages.
        samples: decide where the blocks of a model with fewer blocks go, and what a larger model gives up. None: blocks
            are spaced evenly, and no model may be larger than the anchor.
        tell: gets a line on every model that changes.
        widths: whether widths are changed, too, and not only the number of blocks.
        like: the number of the model whose sizes all get.

    Raises:
        ConfigError: a model is larger than the anchor, and nothing tells what of it matters; or its sizes cannot become
            those of the anchor.
    """
    pattern = models[like]
    pattern_name = names[like] if like else "the anchor"
    return [
        model if model is pattern else _with_sizes(pattern, pattern_name, model, name, samples, tell, widths)
        for model, name in zip(models, names, strict=True)
    ]


def _with_sizes(
    anchor: PreTrainedModel,
    anchor_name: str,
    source: PreTrainedModel,
    name: str,
    samples: SizeSamples | None,
    tell: Callable[[str], None],
    widths: bool,
) -> PreTrainedModel:
    own, wanted = (changeable_sizes(model.config, widths) for model in (source, anchor))
    if source.config.model_type != anchor.config.model_type or own is None or wanted is None or own == wanted:
        return source
    if own.given().keys() != wanted.given().keys():  # another kind of heads
        return source
    least = least_sizes(own, wanted)
    difference = _difference(own, wanted, name, anchor_name, heads_make_width(source.config))
    allowed = checked_blocks(anchor, source, own, wanted, difference)
    check_widths(anchor, source, own, wanted, difference)
    if least != own and (samples is None or not samples.removes_units):
        give_data = ["give --data, which tells what of it matters"] if samples is None else []
        put_first = ["put it first, so that it is the anchor"] if least == wanted else []
        advice = ", or ".join(give_data + put_first) or "fuse models of equal sizes"
        raise ConfigError(f"{difference}; {advice}")
    if source.device.type == "meta":
        return _empty(source, anchor.config, own, wanted)
    anchor, source = (converted(model, model.dtype, model.device) for model in (anchor, source))  # in eval mode
    changes: list[str] = []
    if least != own and samples is not None:
        in_order: AllowedFn = any_blocks if allowed is None else partial(has_in_order, allowed)
        sizes = replace(sizes_of(source.config), **least.given())
        source, kept = smaller(anchor, source, name, samples, sizes, in_order)
        changes.append(_given_up(own, least, kept))
    exact = source
    if only_widths(least) != only_widths(wanted):
        source = wider(source, resized(source.config, only_widths(wanted)))
        changes.append(GETS_WIDER)
    if least.layers != wanted.layers and allowed is not None:
        source, places = _deeper(anchor, source, samples, allowed)
        changes.append(
            f"its blocks take the places {', '.join(map(str, places))} (from 0), and blocks that do nothing take the"
            " others"
        )
    if exact is not source:
        _check_function(exact, source, name, anchor_name)
    tell(f"{difference}; {'; '.join(changes)}")
    return source


def _difference(own: Sizes, wanted: Sizes, name: str, anchor_name: str, heads_make_width: bool) -> str:
    """Return in words which sizes differ."""
    given, others = own.given(), wanted.given()
    told = {"head_size"} if heads_make_width else set()  # by the other sizes
    roles = [role for role, size in given.items() if size != others[role] and role not in told]
    mine, theirs = ({role: sizes[role] for role in roles} for sizes in (given, others))
    short = str(theirs[roles[0]]) if len(roles) == 1 else counted_sizes(theirs)
    return f"{name}: has {counted_sizes(mine)}, {anchor_name} has {short}"


def _given_up(own: Sizes, least: Sizes, kept: Sequence[int]) -> str:
    """Return in words what a model gives up."""
    removed = [str(block) for block in range(own.layers or 0) if block not in kept]
    blocks = f"{'block' if len(removed) == 1 else 'blocks'} {', '.join(removed)} (from 0)" if removed else ""
    units = "units that matter least" if only_widths(own) != only_widths(least) else ""
    return f"{GIVES_UP} {' and '.join(filter(None, [blocks, units]))}, and its layers are fitted to the samples"


def _empty(source: PreTrainedModel, anchor: PreTrainedConfig, own: Sizes, wanted: Sizes) -> PreTrainedModel:
    """Return a model without weights that has the sizes of the anchor, and blocks of the same kinds."""
    count = wanted.layers or 0
    kept = [min(block, (own.layers or 1) - 1) for block in range(count)]
    config = resized(source.config, wanted, kept)
    settings = block_settings(anchor, count)
    for name in block_settings(config, count).keys() & settings.keys():
        setattr(config, name, settings[name])
    return empty_like(source, config)


def _deeper(
    anchor: PreTrainedModel, source: PreTrainedModel, samples: SizeSamples | None, allowed: Bool[Tensor, "own place"]
) -> tuple[PreTrainedModel, list[int]]:
    """Return a model with as many blocks as the anchor, of which some do nothing, and the places of its own blocks."""
    own, wanted = allowed.shape
    similarity = None if samples is None else samples.similarity(anchor, source)
    places = best_places(evenly_spaced(own, wanted) if similarity is None else similarity, allowed)
    return with_idle_blocks(source, wanted, places, anchor.config), places


def _cosines(states: Float[Tensor, "... width"]) -> Float[Tensor, "state state"]:
    """Return the cosines of the angles between all states, which a stream in a wider one keeps."""
    flat = torch.nn.functional.normalize(states.flatten(0, -2), dim=-1)
    return flat @ flat.T


@torch.no_grad()
def _check_function(model: PreTrainedModel, larger: PreTrainedModel, name: str, anchor_name: str) -> None:
    """Raise `ConfigError` unless a model computes the same after it got larger."""
    dtype = compute_dtype(model.dtype)
    model, larger = (each if each.dtype == dtype else as_dtype(copy.deepcopy(each), dtype) for each in (model, larger))
    inputs = cast(model_inputs(model), dtype)
    expected, found = (model_output(each, on_device(inputs, each.device)) for each in (model, larger))
    if expected.shape != found.shape:  # embeddings without a head, of which only angles can be compared
        expected, found = (_cosines(each(**on_device(inputs, each.device))[0]) for each in (model, larger))
    if (expected - found).abs().max() > TOLERANCE * expected.abs().max():
        raise ConfigError(
            f"{name}: with the sizes of {anchor_name}, this {type(model).__name__} computes something else; give models"
            " of equal sizes"
        )
