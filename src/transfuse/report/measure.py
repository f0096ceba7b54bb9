"""Measurements of the parents, the controls, the fusion and the ensemble on the same samples."""

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from torch import Tensor
from transformers import PreTrainedModel

from transfuse.alignment.interface import AlignContext, aligned_weights
from transfuse.alignment.methods import ALIGNMENT_METHODS
from transfuse.base.batch import Batch
from transfuse.base.progress import Progress, silent
from transfuse.config.flow_options import FlowOptions
from transfuse.data.load import is_same_source
from transfuse.errors import TransfuseError
from transfuse.evaluation.evaluate import LossPath, measure_path
from transfuse.evaluation.measures import has_confidence, rounds_near_zero
from transfuse.evaluation.metrics import Metrics, Predictions, known_measures
from transfuse.evaluation.predictor import Predictor
from transfuse.evaluation.references import parents_in_one_basis
from transfuse.evaluation.samples import MeasuredSamples
from transfuse.evaluation.statistics import difference, intervals
from transfuse.evaluation.unknown import warn_of_unknown
from transfuse.fusion.carrying.requirements import ROLES
from transfuse.fusion.matched import Matched
from transfuse.fusion.other_processors import warned_of_processors
from transfuse.merging.mean import mean
from transfuse.network.model import Network, with_tensors
from transfuse.network.token_ids import copy_padding_token
from transfuse.report.facts import Measurement, Role, Row, source_words
from transfuse.report.names import IN_MEMORY, parent_name

FUSION = "fusion"
PLAIN, UNIFORM = "plain average", "uniform plan"  # controls of a fusion; the last is named by `part_of_anchor`
ADDED = "difference added, not aligned"  # the control of a fine-tune that is carried
PredictFn = Callable[[], Predictions]


def measure(
    matched: Matched, fused: PreTrainedModel, samples: MeasuredSamples, progress: Progress, brief: bool = False
) -> Measurement:
    """Measure all models, and the straight lines from the anchor to each aligned model.

    Args:
        matched: the aligned models.
        fused: the fused model.
        samples: samples with labels, or without; then models are compared with the parents.
        progress: displays progress.
        brief: whether to measure the parents and the fused model only.
    """
    anchor = matched.networks[0].model
    seed = matched.options.seed
    names = parent_names(matched)
    told = silent if brief and matched.context.batches else progress  # these samples were told about already
    paths = [origin.path for origin in matched.inputs.origins]
    others = matched.other_processors
    if others is None:
        others = warned_of_processors(paths, anchor, matched.options, progress, data=samples.samples)
    batches = list(samples.batches(anchor, matched.processor_of or str(paths[0]), matched.options, progress=told))
    parents_here = parents_in_one_basis(samples.task, matched.networks, matched.parents, matched.inputs.borrowed)
    parents_here = [matched.inputs.whole.get(number, parent) for number, parent in enumerate(parents_here)]
    predictor = samples.predictor(anchor.config, parents_here, matched.answer_weights)
    subjects = _subjects(matched, fused, parents_here, predictor, batches, brief)
    predictions = {name: predict() for name, _, predict in progress.track(subjects, "measuring")}
    for name, found in predictions.items():
        warn_of_unknown(name, found, progress)
    metrics = {name: prediction.metrics() for name, prediction in predictions.items()}
    parents = [metrics[name] for name in names]
    parents_loss = sum(weight * parent.loss for weight, parent in zip(matched.answer_weights, parents, strict=True))
    rows = [
        Row(name, role, metrics[name], intervals(predictions[name], seed), metrics[name].loss - parents_loss)
        for name, role, _ in subjects
    ]
    near_zero = rounds_near_zero(predictor.measures)
    against = {name: difference(predictions[FUSION], predictions[name], seed, near_zero) for name in names}
    lines = {} if brief or matched.carry else _lines(matched, parents, names, batches, predictor, progress)
    calibration = ("calibration_error",) if has_confidence(predictor.measures) else ()
    rows_read = samples.samples
    calibrated = matched.uses_samples and is_same_source(matched.data, rows_read)
    classes = predictions[FUSION].class_reports(samples.class_names(anchor.config))
    measures = (*known_measures(predictor.measures, metrics.values()), *calibration)
    return Measurement(
        rows,
        against,
        lines,
        measures,
        source_words(rows_read.source),
        rows_read.split,
        calibrated,
        classes,
        samples.labeled,
        aligned=matched.options.align != "none",
        bases_predict=matched.carry is None or matched.carry.keeps_answers,
        other_processors=others,
    )


def _subjects(
    matched: Matched,
    fused: PreTrainedModel,
    parents: Sequence[PreTrainedModel],
    predictor: Predictor,
    batches: Sequence[Batch],
    brief: bool,
) -> list[tuple[str, Role, PredictFn]]:
    """Return the name and role of each model, with a function that predicts."""
    anchor = matched.networks[0].model
    fused = copy.deepcopy(fused).to(anchor.device, anchor.dtype)
    copy_padding_token(anchor, [*parents, fused])
    subjects: list[tuple[str, Role, PredictFn]] = [
        (name, "parent", partial(predictor.predict, [model], batches))
        for name, model in zip(parent_names(matched), parents, strict=True)
    ]
    if not brief:
        subjects += [
            (name, "control", partial(_predict_with_tensors, anchor, tensors, predictor, batches))
            for name, tensors in _controls(matched).items()
        ]
    subjects.append((FUSION, "fusion", partial(predictor.predict, [fused], batches)))
    if not brief and matched.carry is None:
        ensemble = f"ensemble ({len(parents)} times the cost)"
        subjects.append((ensemble, "ensemble", partial(predictor.predict, list(parents), batches)))
    return subjects


def _predict_with_tensors(
    anchor: PreTrainedModel, tensors: Mapping[str, Tensor], predictor: Predictor, batches: Sequence[Batch]
) -> Predictions:
    """Predict with a model that is in memory only meanwhile."""
    return predictor.predict([with_tensors(anchor, tensors)], batches)


def parent_names(matched: Matched) -> list[str]:
    """Return the names of the parents, made of their paths, the anchor first; of models to carry, with their roles."""
    paths = [origin.path or IN_MEMORY for origin in matched.inputs.origins]
    if matched.carry is not None:
        return [f"{role}: {path}" for role, path in zip(ROLES, paths, strict=True)]
    return [parent_name(number, path) for number, path in enumerate(paths, 1)]


def part_of_anchor(share: float) -> str:
    """Return the name of the control that is the anchor's share of the mean, without the other models."""
    return "half the anchor" if share == 0.5 else f"{share:.0%} of the anchor"


def _controls(matched: Matched) -> dict[str, Mapping[str, Tensor]]:
    """Return the tensors of fusions that ignore the units, except those that the models' shapes rule out."""
    anchor, *sources = matched.networks
    if not sources:
        return {}
    share = matched.weights[0]
    part: Mapping[str, Tensor] = {name: share * values for name, values in anchor.tensors.items()}
    if matched.carry is not None:
        tensors = [network.tensors for network in matched.networks]
        can_be_added = matched.carry.keeps_answers and _has_same_shapes(anchor, sources[0])
        return {ADDED: mean(tensors, matched.weights)} if can_be_added else {}
    if any(row is not None for row in matched.inputs.rows):
        return {part_of_anchor(share): part}
    controls: dict[str, Mapping[str, Tensor]] = {}
    is_plain = matched.options.align == "none" and matched.options.merging(matched.data is not None) == "mean"
    if not is_plain and all(_has_same_shapes(anchor, source) for source in sources):
        controls[PLAIN] = mean([network.tensors for network in matched.networks], matched.weights)
    context = AlignContext("weights", (), FlowOptions(plan="uniform"))
    with suppress(TransfuseError):  # the flow does not support all pairs of models
        aligned = aligned_weights([ALIGNMENT_METHODS["flow"](anchor, source, context) for source in sources])
        controls[UNIFORM] = mean(aligned, matched.weights)
    return controls | {part_of_anchor(share): part}


def _lines(
    matched: Matched,
    parents: Sequence[Metrics],
    names: Sequence[str],
    batches: Sequence[Batch],
    predictor: Predictor,
    progress: Progress,
) -> dict[str, LossPath]:
    """Return paths from the anchor to each aligned source, and to the first source as it is if shapes permit."""
    anchor, *sources = matched.networks
    ends: dict[str, tuple[Mapping[str, Tensor], Mapping[str, Tensor], Metrics]] = {
        f"{matched.options.align}, to {name.partition(':')[0]}": (alignment.anchor, alignment.carried, metrics)
        for name, alignment, metrics in zip(names[1:], matched.alignments, parents[1:], strict=True)
    }
    if sources and _has_same_shapes(anchor, sources[0]) and matched.options.align != "none":
        ends["not aligned, to model 2"] = (anchor.tensors, sources[0].tensors, parents[1])
    return {
        name: _line(anchor.model, start, end, (parents[0], metrics), batches, predictor)
        for name, (start, end, metrics) in progress.track(list(ends.items()), "evaluating paths")
    }


def _line(
    model: PreTrainedModel,
    start: Mapping[str, Tensor],
    end: Mapping[str, Tensor],
    parents: tuple[Metrics, Metrics],
    batches: Sequence[Batch],
    predictor: Predictor,
) -> LossPath:
    line = measure_path(model, start, end, parents, batches, predict=predictor.predict)
    return replace(line, measures=known_measures(predictor.measures, line.points))


def _has_same_shapes(first: Network, second: Network) -> bool:
    return all(values.shape == second.tensors[name].shape for name, values in first.tensors.items())
