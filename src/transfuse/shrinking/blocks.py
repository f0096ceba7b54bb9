"""The blocks of a model that stay, and which part of the large model each of them stands for.

Block i of the small model is block `start(i)` of the large one. It also stands for the removed blocks behind that, up
to `end(i)`: its last linear map is fitted to the stream behind them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel

from transfuse.activations.execution_order import block_stack
from transfuse.activations.hook_points import HookPoint
from transfuse.errors import SpecError
from transfuse.merging.fitting.layer_groups import joined_stream
from transfuse.network.axes import axis_terms
from transfuse.network.model import declaration
from transfuse.network.operations import Junction, Linear, Norm
from transfuse.network.spec import Spec


@dataclass(frozen=True)
class Blocks:
    """The blocks that stay.

    Attributes:
        stack: the name of the module list that holds them.
        depth: the number of blocks of the large model.
        kept: the numbers of those that stay, in order.
    """

    stack: str
    depth: int
    kept: tuple[int, ...]

    def start(self, block: int) -> int:
        """Return the large model's block that a block of the small model is made from."""
        return self.kept[block]

    def end(self, block: int) -> int:
        """Return the last block of the large model that a block of the small model stands for."""
        return self.kept[block + 1] - 1 if block + 1 < len(self.kept) else self.depth - 1

    def number(self, name: str) -> int | None:
        """Return the number of the block that a module or tensor belongs to, or None if it belongs to none."""
        rest = name.removeprefix(f"{self.stack}.")
        number = rest.partition(".")[0]
        return int(number) if self.stack and rest != name and number.isdigit() else None

    def large_name(self, name: str, at_end: bool = False) -> str:
        """Return the large model's name of a module or tensor of the small model."""
        number = self.number(name)
        if number is None:
            return name
        tail = name.removeprefix(f"{self.stack}.{number}")
        return f"{self.stack}.{self.end(number) if at_end else self.start(number)}{tail}"


def all_blocks(model: PreTrainedModel, layers: int | None) -> Blocks:
    """Return all blocks of a model."""
    stack, depth = block_stack(model, layers)
    return Blocks(stack, depth, tuple(range(depth)))


@dataclass(frozen=True)
class BlockEnd:
    """How a block ends: its last linear map is added to the stream.

    Attributes:
        writer: the linear map.
        stream: points whose sum is the stream that its output is added to.
        factor: what the output is multiplied by.
        norms: the norms behind the addition whose output is the stream.
    """

    writer: Linear
    stream: tuple[HookPoint, ...]
    factor: float
    norms: tuple[str, ...]


def block_ends(spec: Spec, blocks: Blocks, count: int) -> list[BlockEnd | None]:
    """Return how each of the first `count` blocks ends, or None for a block whose end is not simply added.

    Args:
        spec: a declaration with junctions.
        blocks: tells which block a name belongs to.
    """
    if not blocks.stack:
        return []
    places = [None if isinstance(op, Junction) else blocks.number(op.name) for op in spec.ops]
    return [_block_end(spec, places, number) for number in range(count)]


def _block_end(spec: Spec, places: Sequence[int | None], number: int) -> BlockEnd | None:
    first = places.index(number)
    own = len(places) - 1 - places[::-1].index(number)
    following = (index for index in range(own + 1, len(places)) if not isinstance(spec.ops[index], Junction))
    stop = next(following, len(places))
    junctions = [op for op in spec.ops[first:stop] if type(op) is Junction]
    if not junctions:
        return None
    last = junctions[-1]
    writer = next((linear for linear in spec.linears() if linear.writes == last.branch), None)
    if writer is None or writer.stacked or not writer.observable:
        return None
    stream, factor = joined_stream(spec, writer)
    norms = tuple(op.name for op in spec.ops[first:stop] if isinstance(op, Norm) and op.space == last.space)
    return BlockEnd(writer, stream, factor, norms) if stream else None


def check_removable(model: PreTrainedModel, name: str, layers: int | None) -> None:
    """Raise `SpecError` if no block of a model can be removed."""
    if reason := why_not_removable(model, layers):
        raise SpecError(f"{name}: {reason}; leave out layers")


def why_not_removable(model: PreTrainedModel, layers: int | None) -> str | None:
    """Return why no block of a model can be removed; None: blocks can be."""
    if not block_stack(model, layers)[0]:
        return f"{type(model).__name__} does not have its blocks in one list"
    if getattr(model.config, "scale_attn_by_inverse_layer_idx", False):
        return "scale_attn_by_inverse_layer_idx is true, so what a block computes depends on its number"
    blocks = all_blocks(model, layers)
    outside = (linear for linear in declaration(model).linears() if blocks.number(linear.name) is None)
    reader = next((op.name for op in outside if any(len(axis_terms(axis)) > 1 for axis in op.reads)), None)
    return None if reader is None else f"{reader} reads every block"
