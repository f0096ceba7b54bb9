"""The declared operations of one block, and the norms among them whose output is the stream."""

from transfuse.network.operations import Junction, Linear, Norm
from transfuse.network.spec import Spec


def block_operations(spec: Spec, prefix: str) -> Spec:
    """Return the operations of a block, with the additions between and behind them."""
    named = [index for index, op in enumerate(spec.ops) if getattr(op, "name", "").startswith(prefix)]
    first, last = named[0], named[-1]
    while last + 1 < len(spec.ops) and isinstance(spec.ops[last + 1], Junction):
        last += 1
    return Spec(spec.family, spec.ops[first : last + 1])


def stream_norms(block: Spec) -> list[Norm]:
    """Return the norms of a block whose output is the stream, and not just what a layer reads."""
    sums = [op.space for op in block.ops if isinstance(op, Junction)]
    read = {op.norm for op in block.ops if isinstance(op, Linear)}
    return [op for op in block.ops if isinstance(op, Norm) and op.space in sums and op.name not in read]
