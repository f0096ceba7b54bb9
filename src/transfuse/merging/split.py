"""What layers are fitted to, and how well that went."""

from dataclasses import dataclass

from transfuse.base.batch import Batch
from transfuse.distillation.teacher_weighting import Shares


@dataclass(frozen=True)
class Fit:
    """How well a layer was fitted.

    Attributes:
        ridge: the pull towards the mean of the weights, relative to the inputs' mean square; None: the mean stayed.
        gain: the share of the error, on held-out samples, that it took away: of the squared error of what a linear map
            writes, or of what the last layer lacks of the parents' answers in nats; of units that were chosen, what the
            means among them would have taken.
        units: where units were chosen, how many are means and how many are each parent's own.
    """

    ridge: float | None
    gain: float
    units: tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False)
class Split:
    """Batches, and how far each parent is believed about each of their samples."""

    batches: list[Batch]
    shares: list[Shares]
