"""The optimizers of a whole model: Muon for the matrices of its blocks, Adam for everything else."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from transformers import PreTrainedModel

from transfuse.activations.execution_order import block_lists
from transfuse.base.distributed import process_group
from transfuse.distillation.muon import Muon

MIN_SIZE = 0.01  # smallest size assumed for a tensor, because biases may start at zero


def block_optimizers(model: PreTrainedModel, untouched: Collection[str], learning_rate: float) -> list[Optimizer]:
    """Return Muon for the matrices of blocks and Adam for the rest, with a learning rate relative to each tensor."""
    frozen = {id(parameter) for name in untouched for parameter in model.get_submodule(name).parameters()}
    trained = [parameter for parameter in model.parameters() if id(parameter) not in frozen]
    matrices = _block_matrices(model)
    by_optimizer: dict[type[Muon] | type[Adam], list[nn.Parameter]] = {
        Muon: [parameter for parameter in trained if id(parameter) in matrices],
        Adam: [parameter for parameter in trained if id(parameter) not in matrices],
    }
    return [
        optimizer([{"params": [tensor], "lr": learning_rate * _root_mean_square(tensor)} for tensor in parameters])
        for optimizer, parameters in by_optimizer.items()
        if parameters
    ]


def average_gradients(groups: Sequence[Mapping[str, Any]]) -> None:
    """Average the gradients of parameter groups over all processes. Each process draws its own batches."""
    processes = process_group()
    parameters = [parameter for group in groups for parameter in group["params"]]
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if processes.count > 1:
        for gradient, total in zip(gradients, processes.all_reduce(gradients), strict=True):
            gradient.copy_(total / processes.count)


def _block_matrices(model: PreTrainedModel) -> set[int]:
    """Return the ids of the blocks' matrices, except embedding tables."""
    modules = [module for blocks in block_lists(model).values() for block in blocks for module in block.modules()]
    multiplied = [module for module in modules if not isinstance(module, nn.Embedding)]
    parameters = [parameter for module in multiplied for parameter in module.parameters(recurse=False)]
    return {id(parameter) for parameter in parameters if parameter.ndim == 2}


def _root_mean_square(tensor: Tensor) -> float:
    return max(float(tensor.detach().square().mean().sqrt()), MIN_SIZE)
