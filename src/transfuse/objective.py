"""What a merged model should say of a sample: what the parents say, or the label."""

from collections.abc import Iterable, Sequence

from torch import Tensor
from transformers import PreTrainedModel

from transfuse.batch import Batch, answers, size
from transfuse.choices import Learning
from transfuse.trust import Believe, together


class Objective:
    """Of one run: what parents said of the classes of batches that last as long as it does is remembered."""

    def __init__(
        self, parents: Sequence[PreTrainedModel], weights: Sequence[float], options: Learning, believe: Believe,
        lasting: Iterable[Batch],
    ) -> None:  # fmt: skip
        self.parents, self.weights, self.options, self.believe = parents, weights, options, believe
        self.lasting = {id(batch) for batch in lasting}
        self.said: dict[int, Tensor] = {}

    def wanted(self, batch: Batch) -> Tensor:
        """Labels, or the parents' mean probabilities, [answer, class]."""
        if self.options.objective == "labels":
            return answers(batch)
        if id(batch) in self.said:
            return self.said[id(batch)]
        found = together(self.believe, self.parents, self.weights, batch)
        if id(batch) in self.lasting and len(found) == size(batch):
            self.said[id(batch)] = found
        return found
