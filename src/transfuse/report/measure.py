"""Measurements of the parents, the controls, the fusion and the ensemble on the same samples."""

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

from torch import Tensor
from transformers import PreTrainedModel

from transfuse.alignment.interface import AlignContext, aligned_weights
from transfuse.alignment.methods import ALIGNMENT_METHODS
from transfuse.base.batch import Batch
from transfuse.base.progress import Progress
from transfuse.config.flow_options import FlowOptions
from transfuse.data.samples import Samples
from transfuse.data.tasks import task
from transfuse.errors import TransfuseError
from transfuse.evaluation.evaluate import LossPath, measure_path, predict_answers, predict_ensemble
from transfuse.evaluation.metrics import Metrics, Predictions
from transfuse.evaluation.statistics import difference, intervals
from transfuse.fusion.match import Matched
from transfuse.fusion.record import data_name
from transfuse.merging.mean import mean
from transfuse.network.model import Network, with_tensors
from transfuse.report.facts import Measurement, Role, Row
from transfuse.report.names import IN_MEMORY, parent_name

FUSION, PLAIN = "fusion", "plain average"
PredictFn = Callable[[], Predictions]


def measure(
    matched: Matched, fused: PreTrainedModel, batches: Sequence[Batch], samples: Samples, progress: Progress
) -> Measurement:
    """Measure all models, and the straight lines from the anchor to each aligned model.

    Args:
        matched: the aligned models.
        fused: the fused model.
        batches: the samples, prepared for the anchor.
        samples: the labeled samples.
        progress: displays progress.
    """
    anchor = matched.networks[0].model
    seed = matched.options.seed
    names = parent_names(matched)
    subjects = _subjects(matched, fused, batches)
    predictions = {name: predict() for name, _, predict in progress.track(subjects, "measuring")}
    metrics = {name: prediction.metrics() for name, prediction in predictions.items()}
    parents = [metrics[name] for name in names]
    parents_loss = sum(weight * parent.loss for weight, parent in zip(matched.weights, parents, strict=True))
    rows = [
        Row(name, role, metrics[name], intervals(predictions[name], seed), metrics[name].loss - parents_loss)
        for name, role, _ in subjects
    ]
    against = {name: difference(predictions[FUSION], predictions[name], seed) for name in names}
    lines = _lines(matched, parents, names, batches, progress)
    measures = (*task(type(anchor).__name__).measures, "calibration_error")
    calibrated = matched.data is not None and samples.source == data_name(matched.data)
    classes = predictions[FUSION].class_reports(anchor.config.id2label or {})
    return Measurement(rows, against, lines, measures, samples.source, samples.split, calibrated, classes)


def _subjects(matched: Matched, fused: PreTrainedModel, batches: Sequence[Batch]) -> list[tuple[str, Role, PredictFn]]:
    """Return the name and role of each model, with a function that predicts."""
    models = [network.model for network in matched.networks]
    anchor = models[0]
    fused = copy.deepcopy(fused).to(anchor.device, anchor.dtype)
    subjects: list[tuple[str, Role, PredictFn]] = [
        (name, "parent", partial(predict_answers, model, batches))
        for name, model in zip(parent_names(matched), models, strict=True)
    ]
    subjects += [
        (name, "control", partial(_predict_with_tensors, anchor, tensors, batches))
        for name, tensors in _controls(matched).items()
    ]
    ensemble = f"ensemble ({len(models)} times the cost)"
    return [
        *subjects,
        (FUSION, "fusion", partial(predict_answers, fused, batches)),
        (ensemble, "ensemble", partial(predict_ensemble, models, batches)),
    ]


def _predict_with_tensors(
    anchor: PreTrainedModel, tensors: Mapping[str, Tensor], batches: Sequence[Batch]
) -> Predictions:
    """Predict with a model that is in memory only meanwhile."""
    return predict_answers(with_tensors(anchor, tensors), batches)


def parent_names(matched: Matched) -> list[str]:
    """Return the names of the parents, made of their paths, the anchor first."""
    return [parent_name(number, origin.path or IN_MEMORY) for number, origin in enumerate(matched.inputs.origins, 1)]


def _controls(matched: Matched) -> dict[str, Mapping[str, Tensor]]:
    """Return the tensors of fusions that ignore the units, except those that the models' shapes rule out."""
    anchor, *sources = matched.networks
    anchor_share = {name: matched.weights[0] * values for name, values in anchor.tensors.items()}
    if any(row is not None for row in matched.inputs.rows):
        return {"the anchor's share alone": anchor_share}
    controls: dict[str, Mapping[str, Tensor]] = {}
    is_plain = matched.options.align == "none" and matched.options.merging(matched.data is not None) == "mean"
    if not is_plain and all(_has_same_shapes(anchor, source) for source in sources):
        controls[PLAIN] = mean([network.tensors for network in matched.networks], matched.weights)
    context = AlignContext("weights", (), FlowOptions(plan="uniform"))
    with suppress(TransfuseError):  # the flow does not support all pairs of models
        aligned = aligned_weights([ALIGNMENT_METHODS["flow"](anchor, source, context) for source in sources])
        controls["uniform plan"] = mean(aligned, matched.weights)
    return controls | {"the anchor's share alone": anchor_share}


def _lines(
    matched: Matched, parents: Sequence[Metrics], names: Sequence[str], batches: Sequence[Batch], progress: Progress
) -> dict[str, LossPath]:
    """Return paths from the anchor to each aligned source, and to the first source as it is if shapes permit."""
    anchor, *sources = matched.networks
    ends: dict[str, tuple[Mapping[str, Tensor], Mapping[str, Tensor], Metrics]] = {
        f"{matched.options.align}, to {name.partition(':')[0]}": (alignment.anchor, alignment.carried, metrics)
        for name, alignment, metrics in zip(names[1:], matched.alignments, parents[1:], strict=True)
    }
    if _has_same_shapes(anchor, sources[0]) and matched.options.align != "none":
        ends["not aligned, to model 2"] = (anchor.tensors, sources[0].tensors, parents[1])
    return {
        name: measure_path(anchor.model, start, end, (parents[0], metrics), batches)
        for name, (start, end, metrics) in progress.track(list(ends.items()), "evaluating paths")
    }


def _has_same_shapes(first: Network, second: Network) -> bool:
    return all(values.shape == second.tensors[name].shape for name, values in first.tensors.items())
