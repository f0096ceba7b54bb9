"""The sizes of a model, from its declaration, that decide how much memory a fusion with samples takes."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from transfuse.activations.execution_order import block_lists
from transfuse.base.budget import FLOAT_BYTES
from transfuse.merging.fitting.output_head import MAX_MATRIX_ENTRIES
from transfuse.network.layout import joined_names
from transfuse.network.model import declaration
from transfuse.network.operations import Linear


@dataclass(frozen=True)
class ModelShape:
    """Describe the largest of the models by its sizes.

    Attributes:
        weight_bytes: all weights in single precision, in which everything is computed.
        matrix_bytes: the matrices of the blocks among them, which Muon trains.
        joined_bytes: the tensors among them that are computed with in another form than they are stored in.
        blocks: number of blocks.
        width: units of the residual stream.
        hidden: units of the widest input of a linear map.
        interchangeable: whether these units are selected one by one.
        block_outputs: numbers per token that the linear maps of one block write.
        stage_outputs: the largest number of them that are written by maps that read the same values.
        stage_maps: the number of these maps.
        child_outputs: numbers per token that the children of one block write.
        classes: logits of an answer; 0 without a head.
        head_entries: entries of the matrix of the head; 0 if it is shared with the embeddings.
    """

    weight_bytes: int
    matrix_bytes: int
    joined_bytes: int
    blocks: int
    width: int
    hidden: int
    interchangeable: bool
    block_outputs: int
    stage_outputs: int
    stage_maps: int
    child_outputs: int
    classes: int
    head_entries: int

    @classmethod
    def of(cls, model: PreTrainedModel) -> "ModelShape":
        """Return the sizes of a model, whose tensors may be empty."""
        spec = declaration(model)
        stored = model.state_dict()
        layers = [op for op in spec.linears() if len(op.reads) == 1 and not op.stacked and op.observable]
        blocks = [block for members in block_lists(model).values() for block in members]
        inside = [op for op in layers if op.part in ("attention", "ffn")] or layers
        widest = max(inside, key=lambda op: op.reads[0].size)
        heads = [op for op in layers if not op.writes.is_free]
        head = heads[0] if len(heads) == 1 else None
        return cls(
            model.num_parameters() * FLOAT_BYTES,
            _matrix_entries(blocks) * FLOAT_BYTES,
            sum(stored[name].numel() for name in joined_names(spec)) * FLOAT_BYTES,
            max(len(blocks), 1),
            max((norm.space.size for norm in spec.norms()), default=widest.writes.size),
            widest.reads[0].size,
            _are_interchangeable(widest),
            sum(op.writes.size for op in inside) // max(len(blocks), 1),
            *_largest_stage(inside),
            _child_outputs(model, inside) // max(len(blocks), 1),
            head.writes.size if head else 0,
            0 if head is None or _is_shared(model, head) else head.writes.size * head.reads[0].size,
        )

    @property
    def fits_head(self) -> bool:
        """Return whether there is a head that is fitted: its matrix is small enough, or shared with the embeddings."""
        return bool(self.classes) and self.head_entries <= MAX_MATRIX_ENTRIES

    @property
    def trained_numbers(self) -> int:
        """Return how many numbers per token are kept for the gradients of all weights.

        In each block these are what the linear maps write, what the norms read and write, the contexts of the
        attention, and the activated hidden units.
        """
        return self.blocks * (self.block_outputs + 3 * self.width + self.stage_maps * self.hidden)

    @property
    def observed_numbers(self) -> int:
        """Return how many numbers per token are kept for the gradients of the outputs of all linear maps."""
        return self.blocks * (2 * self.block_outputs + 3 * self.width)

    @property
    def optimizer_bytes(self) -> int:
        """Return the size of the momentum of Muon's matrices, and of Adam's two moments of everything else."""
        return self.matrix_bytes + 2 * (self.weight_bytes - self.matrix_bytes)


def _matrix_entries(blocks: Iterable[nn.Module]) -> int:
    """Return the number of entries of the blocks' matrices."""
    return sum(parameter.numel() for block in blocks for parameter in block.parameters() if parameter.ndim == 2)


def _largest_stage(layers: Iterable[Linear]) -> tuple[int, int]:
    """Return the largest number of outputs of linear maps that read the same values, and the number of these maps."""
    by_inputs: dict[object, list[int]] = {}
    for op in layers:
        by_inputs.setdefault((op.reads, op.norm), []).append(op.writes.size)
    return max((sum(sizes), len(sizes)) for sizes in by_inputs.values())


def _child_outputs(model: PreTrainedModel, layers: Iterable[Linear]) -> int:
    """Return how many numbers per token the children of all blocks write: the outputs of the last map of each."""
    last: dict[str, int] = {}
    for name, members in block_lists(model).items():
        children = [
            f"{name}.{index}.{child}" for index, block in enumerate(members) for child, _ in block.named_children()
        ]
        for op in layers:
            last |= {child: op.writes.size for child in children if f"{op.name}.".startswith(f"{child}.")}
    return sum(last.values())


def _are_interchangeable(op: Linear) -> bool:
    """Return whether the inputs of a linear map are hidden units that can be selected one by one."""
    space = next(iter(op.reads[0].spaces()))
    return op.norm is None and space.group.permutes


def _is_shared(model: PreTrainedModel, head: Linear) -> bool:
    """Return whether the matrix of the head is also the table of embeddings."""
    parameters = model.state_dict(keep_vars=True)
    return sum(values is parameters[head.matrix] for values in parameters.values()) > 1
