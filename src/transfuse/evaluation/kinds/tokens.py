"""Language models without targets: how alike two models predict the tokens of the same texts."""

from torch import Tensor
from transformers import PreTrainedModel

from transfuse.base.batch import Batch
from transfuse.evaluation.kind import Kind, mean_of_log_probabilities, outputs
from transfuse.evaluation.kinds.entities import agreement


def answers(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Return the logarithm of the probability of each token at each position [sample, token, token id]."""
    return outputs(model, batch)["logits"].float().log_softmax(-1)


TOKENS = Kind(answers, mean_of_log_probabilities, agreement)
