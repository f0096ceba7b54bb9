"""Parents, controls, the fusion and the ensemble on the same samples, and the lines between aligned models."""

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

from torch import Tensor
from transformers import PreTrainedModel

from transfuse.alignment.interface import AlignContext, aligned_weights
from transfuse.alignment.methods import METHODS
from transfuse.base.batch import Batch
from transfuse.base.progress import Progress
from transfuse.config.flow_options import FlowOptions
from transfuse.data.tasks import task
from transfuse.errors import TransfuseError
from transfuse.evaluation.evaluate import LossPath, measure_path, predict_answers, predict_ensemble
from transfuse.evaluation.metrics import Metrics, Predictions
from transfuse.evaluation.statistics import difference, intervals
from transfuse.fusion.match import Matched
from transfuse.fusion.record import source_of
from transfuse.merging.mean import mean
from transfuse.network.model import Network, with_tensors
from transfuse.report.facts import Measurement, Role, Row

FUSION, PLAIN = "fusion", "plain average"


def measure(
    matched: Matched, fused: PreTrainedModel, batches: Sequence[Batch], source: str, progress: Progress
) -> Measurement:
    """All of it.

    Args:
        batches: labelled, prepared for the anchor; `source`: where they come from.
    """
    networks, weights, seed = matched.networks, matched.weights, matched.options.seed
    anchor, models = networks[0].model, [each.model for each in networks]
    names = parent_names(matched)
    asked: list[tuple[str, Role, Callable[[], Predictions]]] = [
        *(
            (name, "parent", partial(predict_answers, model, batches))
            for name, model in zip(names, models, strict=True)
        ),
        *(
            (name, "control", partial(_judge_tensors, anchor, tensors, batches))
            for name, tensors in _controls(matched).items()
        ),
        (FUSION, "fusion", partial(predict_answers, copy.deepcopy(fused).to(anchor.device, anchor.dtype), batches)),
        (f"ensemble ({len(models)} times the cost)", "ensemble", partial(predict_ensemble, models, batches)),
    ]
    found = {name: answer() for name, _, answer in progress.track(asked, "measuring")}
    parents = [found[name].metrics() for name in names]
    even = sum(weight * each.loss for weight, each in zip(weights, parents, strict=True))
    rows = []
    for name, role, _ in asked:
        metrics = found[name].metrics()
        rows.append(Row(name, role, metrics, intervals(found[name], seed), metrics.loss - even))
    against = {name: difference(found[FUSION], found[name], seed) for name in names}
    lines = _lines(matched, parents, names, batches, progress)
    measures = (*task(type(anchor).__name__).measures, "calibration_error")
    calibrated = matched.data is not None and source == source_of(matched.data)
    classes = found[FUSION].grades(anchor.config.id2label or {})
    return Measurement(rows, against, lines, measures, source, calibrated, classes)


def _judge_tensors(anchor: PreTrainedModel, tensors: Mapping[str, Tensor], batches: Sequence[Batch]) -> Predictions:
    """A model that is made for this alone."""
    return predict_answers(with_tensors(anchor, tensors), batches)


def parent_names(matched: Matched) -> list[str]:
    """What to call the parents: as they were given, the anchor first."""
    given = [origin.path or "in memory" for origin in matched.inputs.origins]
    return [f"{'anchor' if index == 1 else f'model {index}'}: {name}" for index, name in enumerate(given, 1)]


def _controls(matched: Matched) -> dict[str, Mapping[str, Tensor]]:
    """What knows nothing of the units: each is left out where models differ too much for it."""
    anchor, *others = matched.networks
    ours = anchor.tensors
    half = {name: matched.weights[0] * values for name, values in ours.items()}
    if any(row is not None for row in matched.inputs.rows):
        return {"the anchor's share alone": half}
    found: dict[str, Mapping[str, Tensor]] = {}
    averaged = matched.options.align == "none" and matched.options.merging(matched.data is not None) == "mean"
    if not averaged and all(_alike(anchor, other) for other in others):
        found[PLAIN] = mean([each.tensors for each in matched.networks], matched.weights)
    choices = AlignContext("weights", (), FlowOptions(plan="uniform"))
    with suppress(TransfuseError):  # not any two models have a flow between them
        spread = aligned_weights([METHODS["flow"](anchor, other, choices) for other in others])
        found["uniform plan"] = mean(spread, matched.weights)
    return found | {"the anchor's share alone": half}


def _lines(
    matched: Matched, parents: Sequence[Metrics], names: Sequence[str], batches: Sequence[Batch], progress: Progress
) -> dict[str, LossPath]:
    """From the anchor to each source, as it was carried; and to the first as it is, where that can be."""
    anchor, *others = matched.networks
    ends: dict[str, tuple[Mapping[str, Tensor], Mapping[str, Tensor], Metrics]] = {
        f"{matched.options.align}, to {name.partition(':')[0]}": (aligned.anchor, aligned.carried, metrics)
        for name, aligned, metrics in zip(names[1:], matched.alignments, parents[1:], strict=True)
    }
    if _alike(anchor, others[0]) and matched.options.align != "none":
        ends["as they are, to model 2"] = (anchor.tensors, others[0].tensors, parents[1])
    return {
        name: measure_path(anchor.model, start, end, (parents[0], metrics), batches)
        for name, (start, end, metrics) in progress.track(list(ends.items()), "walking")
    }


def _alike(one: Network, other: Network) -> bool:
    """Whether tensors have the same shapes."""
    return all(values.shape == other.tensors[name].shape for name, values in one.tensors.items())
