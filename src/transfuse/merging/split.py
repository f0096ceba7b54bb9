"""The data that layers are fitted to, and the result of a fit."""

from dataclasses import dataclass

from transfuse.base.batch import Batch
from transfuse.distillation.teacher_weighting import Shares


@dataclass(frozen=True)
class Fit:
    """The result of fitting one layer.

    Attributes:
        ridge: the chosen penalty on deviations from the mean of the weights, relative to the mean square of the inputs.
            None: the mean was kept.
        gain: the share of the mean's validation error that the fit removed. The error is the squared error of a linear
            map's output; for the output head, the gap to the parents' loss in nats. For selected units, it is the gain
            of the means among them.
        units: how many of the selected units are means, and how many come from each parent. None: no selection.
    """

    ridge: float | None
    gain: float
    units: tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False)
class Split:
    """Training or validation batches, and the weight of each parent for each of their samples."""

    batches: list[Batch]
    shares: list[Shares]
