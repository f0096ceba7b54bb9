"""What a merged model should say of a sample: what the parents say, or the label."""

from collections.abc import Sequence

from torch import Tensor
from transformers import PreTrainedModel

from transfuse.batch import Batch, answers, size
from transfuse.choices import Learning
from transfuse.trust import Believe, together


class Objective:
    """Of one run: what parents said of classes is remembered."""

    def __init__(
        self, parents: Sequence[PreTrainedModel], weights: Sequence[float], options: Learning, believe: Believe
    ) -> None:
        self.parents, self.weights, self.options, self.believe = parents, weights, options, believe
        self.said: dict[int, Tensor] = {}

    def wanted(self, batch: Batch) -> Tensor:
        """Labels, or the parents' mean probabilities, [answer, class]."""
        if self.options.objective == "labels":
            return answers(batch)
        if id(batch) in self.said:
            return self.said[id(batch)]
        found = together(self.believe, self.parents, self.weights, batch)
        if self.options.augment == "none" and len(found) == size(batch):
            self.said[id(batch)] = found
        return found
