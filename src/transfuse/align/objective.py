"""What a merged model should say of a sample: what the parents say, or the label."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.batch import Batch, answers, asked, size
from transfuse.choices import Learning
from transfuse.network.model import predict
from transfuse.trust import Believe


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
        found = self._mean_answer(batch)
        if self.options.augment == "none" and len(found) == size(batch):
            self.said[id(batch)] = found
        return found

    @torch.no_grad()
    def _mean_answer(self, batch: Batch) -> Float[Tensor, "answer cls"]:
        """The parents' mean probabilities, each as much as it is believed."""
        said = torch.stack([predict(parent, batch).softmax(-1) for parent in self.parents])
        sample = asked(batch, said.shape[1]).to(said.device)
        shares = self.believe(self.parents, self.weights, batch).to(said)[:, sample]
        return (shares.unsqueeze(-1) * said).sum(0)
