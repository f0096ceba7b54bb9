"""Fuse models, given as paths or loaded, into one model that can be saved."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from transfuse.alignment.exact.original_form import original_form
from transfuse.base.batch import has_targets
from transfuse.base.lazy import Lazy
from transfuse.base.printable import printable
from transfuse.base.progress import Progress, as_progress, silent
from transfuse.base.timing import Stopwatch
from transfuse.base.torch_settings import own_torch_settings
from transfuse.checkpoint.cards.parents import differing_licenses, parents_of
from transfuse.checkpoint.reading.finite import check_finite, check_range
from transfuse.checkpoint.reading.load import Model, local_directory
from transfuse.checkpoint.record.outcome import growth_is_unused
from transfuse.config.literals import ALIGNMENTS
from transfuse.config.settings import torch_dtype
from transfuse.data.processors import loaded_processor
from transfuse.errors import ConfigError, SpecError
from transfuse.fusion.grow import growth
from transfuse.fusion.match import match
from transfuse.fusion.matched import Matched
from transfuse.fusion.models.anchor_head import borrowed_maps
from transfuse.fusion.models.vocabulary import vocabulary_maps
from transfuse.fusion.record import fusion_record
from transfuse.fusion.result import Fusion
from transfuse.fusion.sample_weighting import sample_weighting
from transfuse.fusion.streamed import StreamedModel
from transfuse.merging.methods import MERGE_FUNCTIONS
from transfuse.merging.request import MergeRequest
from transfuse.network.model import declaration, unfused_tensors, with_tensors
from transfuse.network.outputs import has_logits
from transfuse.network.precision import stored_as


def fuse(
    models: Sequence[Model],
    data: Any = None,
    progress: Progress | bool = silent,
    processor: Any = None,
    cache: str | Path | None = None,
    max_memory: int | str | None = None,
    stream: bool | None = None,
    base: Model | None = None,
    **options: Any,
) -> Fusion:
    """Fuse models into the basis and shape of the first one.

    Args:
        models: two or more, or one with a base; the first is the anchor. Checkpoint directories, Hub names or loaded
            models.
        data: unlabeled calibration samples: a path, a list of texts, of PIL images or of dicts, a pandas `DataFrame`, a
            dataset of `datasets` (a stream gives its first 100,000 rows), or `Samples`; "generated": texts by the
            models, if they are causal language models. By default, layers are fitted and weights are trained on these
            samples, while units are matched on weights (`match_on`). None: the mean of the aligned models.
        progress: shows progress; True: on the terminal or in the notebook. Silent by default.
        processor: prepares `data` and is saved with the fused model; None: the processor in the anchor's directory.
            A loaded anchor has no directory, so `data` then requires a processor.
        cache: a folder for statistics, maps and fitted layers. An interrupted run continues from it, and other runs
            with the same models and data reuse it. None: nothing is cached.
        max_memory: memory limit, as bytes or "8GB". Models that do not fit stay in their files and are fused tensor
            by tensor; statistics that do not fit go to `cache`. None: models that would take more than half of the
            free memory are streamed.
        stream: whether to fuse tensor by tensor; None: only if memory requires it.
        base: the model that all models were fine-tuned from, for merging by task vectors: a directory, a Hub name or a
            loaded model.
        options: fields of `Options`: align, merge, match_on, weights, samples, seed, device, dtype, ...

    Returns:
        The fusion; its `save` writes the checkpoint.

    Raises:
        TransfuseError: an input cannot be fused; the message says what, where and what to do.
    """
    matched = match(models, data, progress, processor, cache, max_memory, stream, base, **options)
    return merge(matched, progress, processor)


@own_torch_settings()
def merge(matched: Matched, progress: Progress | bool = silent, processor: Any = None) -> Fusion:
    """Merge models that are in one basis into one model.

    Args:
        matched: what `match` returned.
        progress: as for `fuse`.
        processor: as for `fuse`.

    Raises:
        ConfigError: `matched` is something else.
        SpecError: the merge method returned a tensor of another shape, or lacks one.
        TransfuseError: the fused weights are not finite, or the samples do not suffice for the merge method.
    """
    if not isinstance(matched, Matched):
        raise ConfigError(f"matched: a {type(matched).__name__} is not a result of match; give what match returns")
    progress = as_progress(progress)
    watch = Stopwatch()
    request = _request(matched, progress)
    method = _method(matched, progress)
    merged = MERGE_FUNCTIONS[method](request)
    if not isinstance(merged, Mapping | PreTrainedModel):
        raise SpecError(f"merge {method}: returned a {type(merged).__name__}; return tensors by name, or a model")
    fused = _finalize(matched, _in_own_form(matched, _with_whole_numbers(matched, merged)), progress)
    watch.lap("merging")
    record = fusion_record(matched, method, request.record)
    if growth_is_unused(record):
        start = record["learned_weights"]["start"]
        progress.warn(
            f"growing gained nothing: the result computes what {start} computes, and the hidden units and heads that"
            " were added do nothing; leave --grow out, or train longer"
        )
    record["stages"] = matched.seconds | watch.laps
    if licenses := differing_licenses(parents_of(record)):
        stated = ", ".join(f"{path}: {name}" for path, name in licenses.items())
        progress.warn(printable(f"licenses differ ({stated}); check that they permit a combined model"))
    return Fusion(
        fused=fused,
        alignments=matched.alignments,
        options=matched.options,
        record=record,
        origins=matched.inputs.origins,
        processor=loaded_processor(processor, matched.anchor),
        adapter_base=matched.adapter_base,
    )


def _method(matched: Matched, progress: Progress) -> str:
    """Return the merge method. Samples that cannot be learned from are fitted, unless learning was chosen."""
    method = matched.options.merging(matched.data is not None)
    if method == "learned" and matched.options.merge == "auto" and not any(map(has_targets, matched.context.batches)):
        progress.warn("no sample has an output to learn from; layers are fitted by least squares instead")
        return "least-squares"
    return method


def _request(matched: Matched, progress: Progress) -> MergeRequest:
    """Return the input of the merge method."""
    vocabularies_differ = any(rows is not None for rows in matched.inputs.rows)
    untouched = vocabulary_maps(declaration(matched.anchor)) if vocabularies_differ else set()
    for borrowed in matched.inputs.borrowed:
        untouched |= borrowed_maps(matched.anchor, borrowed)
    return MergeRequest(
        anchor=matched.networks[0],
        parents=matched.parents,
        weights=matched.weights,
        batches=matched.context.batches,
        weighting=sample_weighting(matched, progress),
        untouched=untouched,
        base=matched.base,
        layers=matched.options.layers(),
        learning=matched.options.learning(),
        seed=matched.options.seed,
        progress=progress,
        store=matched.stores.joint,
        carry=matched.carry,
        originals=_originals(matched),
        growth=None if matched.growth is None else growth(matched.networks[0].model, matched.growth),
    )


def _originals(matched: Matched) -> dict[int, PreTrainedModel]:
    """Return the models whose predictions can be learned as they are, by their numbers, if maps only approximate them.

    Their widths differ from those of the anchor, they were larger than it, or their alignment does not keep what they
    compute. Their vocabularies do not differ. There are none without heads, because embeddings of another
    width or basis cannot be compared.
    """
    networks = matched.networks
    if not matched.context.batches or not has_logits(networks[0].model):
        return {}
    shapes = [{name: values.shape for name, values in network.model.state_dict().items()} for network in networks]
    vocab_sizes = [getattr(network.model.config, "vocab_size", None) for network in networks]
    numbers = [
        number for number, shape in enumerate(shapes) if shape != shapes[0] and vocab_sizes[number] == vocab_sizes[0]
    ]
    if not ALIGNMENTS[matched.options.align]:
        numbers += [number for number, rows in enumerate(matched.inputs.rows, 1) if rows is None]
    return {number: networks[number].model for number in numbers} | dict(matched.inputs.whole)


def _with_whole_numbers(
    matched: Matched, merged: Mapping[str, Tensor] | PreTrainedModel
) -> Mapping[str, Tensor] | PreTrainedModel:
    """Return merged tensors with those of whole numbers as in the anchor, such as counts of batches in ResNet."""
    stored = matched.anchor.state_dict()
    whole = [name for name, values in stored.items() if not values.is_floating_point()]
    if not whole or isinstance(merged, PreTrainedModel):
        return merged
    anchor = matched.networks[0].tensors
    sources = {name: anchor if name in whole else merged for name in merged}
    return Lazy({name: partial(source.__getitem__, name) for name, source in sources.items()})


def _in_own_form(
    matched: Matched, merged: Mapping[str, Tensor] | PreTrainedModel
) -> Mapping[str, Tensor] | PreTrainedModel:
    """Return a carried fine-tune in the form of the new base, so that they differ in what was tuned alone.

    Any other result stays in canonical form, as does one whose new base has gains near zero.
    """
    if matched.carry is None or not matched.alignments[0].matches:
        return merged
    new_base = matched.networks[0]
    tensors = unfused_tensors(merged) if isinstance(merged, PreTrainedModel) else merged
    own = original_form(matched.alignments[0].spec, new_base.tensors, tensors)
    return merged if own is None else with_tensors(new_base.model, own)


def _finalize(
    matched: Matched, merged: Mapping[str, Tensor] | PreTrainedModel, progress: Progress
) -> PreTrainedModel | StreamedModel:
    """Return the merged model on the CPU in the precision to write, or a streamed model if the inputs are streamed."""
    dtype = torch_dtype(matched.options.dtype) or matched.networks[0].stored_dtype
    if matched.inputs.streamed and not isinstance(merged, PreTrainedModel):
        folder = local_directory(str(matched.inputs.origins[0].path), "allow")
        return StreamedModel(matched.anchor, folder, merged, dtype, progress, matched.workspace)
    model = merged if isinstance(merged, PreTrainedModel) else with_tensors(matched.networks[0].model, merged)
    check_finite(model.state_dict(), "the fused model")
    check_range(model.state_dict(), dtype)
    return stored_as(dtype, model.to("cpu"))
