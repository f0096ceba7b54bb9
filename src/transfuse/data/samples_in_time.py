"""How many samples training may read in its time on a CPU, where nobody would wait for all of them.

A GPU reads thousands of samples in any time that a user allows.
"""

import torch
from transformers import PreTrainedModel

from transfuse.config.literals import LearningOptions

CPU_FLOPS = 5e10  # operations per second that training may count on without a GPU
TRAINING = 10  # operations per token and parameter: three passes of the model and one of each of two teachers
WEIGHTING = 12  # the same for weighting two teachers of an image by three moved copies of it
QUICK_MINUTES = 2.0  # that finding the best start of a training may take where no training follows
MIN_SAMPLES = 100  # that are always read


def samples_in_time(
    model: PreTrainedModel, tokens: float, learning: LearningOptions, device: torch.device, operations: int = TRAINING
) -> int | None:
    """Return about how many samples training reads in its time; None if nothing but the user limits their number.

    Args:
        model: the model that is trained, whose tensors may be empty.
        tokens: the mean number of tokens of a sample.
        device: where the model is trained.
        operations: what a sample takes, per token and parameter.
    """
    if device.type != "cpu" or learning.steps is not None:
        return None
    seconds = 60 * (learning.minutes if learning.trains else QUICK_MINUTES)
    return max(int(CPU_FLOPS * seconds / (operations * model.num_parameters() * max(tokens, 1))), MIN_SAMPLES)
