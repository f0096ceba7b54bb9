"""What a fusion will take, from headers and configuration alone: memory, disk and time.

Counts of products and of bytes moved, over what this machine does in a second, which is measured in a blink.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from math import prod

import torch
from transformers import PreTrainedModel

from transfuse.alignment.exact.coordinate_descent import roots
from transfuse.alignment.spec_for import alignment_spec
from transfuse.config.options import Options
from transfuse.network.layout import unfused
from transfuse.network.model import declaration
from transfuse.network.space import Group, Space, leaves
from transfuse.network.spec import Spec

SINGLE, DOUBLE = 4, 8  # bytes of a number
START = 600 * 2**20  # bytes that Python, torch and transformers take before anything is read
IMPORTS = 6.0  # seconds that these take
ROUNDS = 6  # of coordinate descent, as a rule
SPECTRAL = 22  # products of a singular value decomposition, over the cube of its size
ASSIGNED = 2e-2 / 1024**2.4  # seconds of an assignment, over its size to the power of 2.4
SCALINGS = 200  # passes of Sinkhorn's algorithm over a plan, as a rule
PASSES = 12  # over a tensor, to read, convert, fold and carry it
ROTATED = (Group.ORTHOGONAL, Group.CENTRED, Group.LINEAR)


@dataclass(frozen=True)
class Rates:
    """What the machine does in a second: products in single and in double precision, bytes moved."""

    single: float
    double: float
    moved: float


@dataclass(frozen=True)
class Labour:
    """What is to be done: products in single and double precision, bytes moved, and seconds of what is neither."""

    single: float = 0.0
    double: float = 0.0
    moved: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: "Labour") -> "Labour":
        return Labour(
            self.single + other.single,
            self.double + other.double,
            self.moved + other.moved,
            self.seconds + other.seconds,
        )

    def takes(self, rates: Rates) -> float:
        """Seconds, at these rates."""
        return self.single / rates.single + self.double / rates.double + self.moved / rates.moved + self.seconds


@dataclass(frozen=True)
class Estimate:
    """Costs of fusing models that are known without their data, by their weights alone."""

    models: Sequence[PreTrainedModel]
    options: Options

    @cached_property
    def spec(self) -> Spec:
        """The declaration as the alignment sees it, of the largest model."""
        largest = max(self.models, key=lambda model: model.num_parameters())
        paper = self.options.paper()
        return alignment_spec(unfused(declaration(largest)), self.options.align, paper, self.options.groups)

    @cached_property
    def matched(self) -> list[Space]:
        """The spaces that maps are found for."""
        return [] if self.options.align == "none" else list(self.spec.spaces().values())

    @property
    def parameters(self) -> int:
        """Of the largest model."""
        return max(model.num_parameters() for model in self.models)

    @property
    def stored(self) -> int:
        """Bytes of a number on disk."""
        return self.models[0].dtype.itemsize

    @property
    def map_bytes(self) -> int:
        """All maps of one source: an index for a permutation, else a matrix or two."""
        soft = self.options.align == "flow" and self.options.plan != "hard"
        both = len({model.num_parameters() for model in self.models}) > 1  # as wide ones, one matrix serves both ways
        one = SINGLE * (1 + both) if soft else 0
        return sum(_times(space) * _map_bytes(space, one) for space in self.matched) * (len(self.models) - 1)

    @property
    def output_bytes(self) -> int:
        """The fused checkpoint."""
        written = self.options.torch_dtype()
        return self.models[0].num_parameters() * (written.itemsize if written else self.stored)

    @property
    def loaded(self) -> int:
        """Peak memory with all models in memory."""
        count, aligned = len(self.models), bool(self.matched)
        copies = count * self.stored / SINGLE if self.stored < SINGLE else 0.0  # as stored, beside single precision
        copies += count + (3 if aligned else 2)  # the fused one, written, and read again to be verified
        copies += (count - 1 if self.options.align == "flow" else 2 * count - 1) if aligned else 0  # folded, carried
        return START + int(copies * self.parameters * SINGLE) + self._matching + self.map_bytes

    @property
    def streamed(self) -> int:
        """Peak memory from file to file: the largest tensor on its way, or the largest map being found."""
        largest = max(values.numel() for model in self.models for values in model.parameters())
        hard = self.map_bytes if self.options.align == "exact" else 0
        return START + max(4 * largest * SINGLE, self._matching) + hard

    @property
    def _matching(self) -> int:
        """Cross-moments of the largest pair of spaces, their scores, and what the solver makes of them."""
        copies = 5 if self.options.align == "flow" else 9
        return copies * DOUBLE * max((space.units for space in self.matched), default=0) ** 2

    @cached_property
    def labour(self) -> Labour:
        """All that is to be done."""
        count = len(self.models)
        moved = self.parameters * (count * (self.stored + 2 * SINGLE) + 3 * self.output_bytes / self.parameters)
        found = Labour(moved=moved, seconds=IMPORTS)
        one = {"exact": self._exact, "flow": self._flow}.get(self.options.align)
        for _ in range(count - 1 if one else 0):
            assert one is not None
            found += one()
        return found

    def _exact(self) -> Labour:
        """Rounds over all outermost spaces: carry what is known, multiply, solve."""
        single, double, moved = 0.0, 0.0, 0.0
        for axes in self.spec.tensors().values():
            spaces = [space for axis in axes for space, _ in leaves(axis)]
            size = prod(space.units for space in spaces)
            tops = {space.root for space in spaces if _movable(space)}
            for top in tops:
                shown = prod(space.units for space in spaces if space.root == top)
                turned = sum(space.units for space in spaces if space.root != top and space.group in ROTATED)
                double += 2 * size * shown
                single += 2 * size * turned
                moved += PASSES * 2 * size * SINGLE
        solved = Labour(
            double=sum(SPECTRAL * _times(space) * space.units**3 for space in self.matched if space.group in ROTATED),
            seconds=sum(
                ASSIGNED * _times(space) * space.units**2.4 for space in roots(self.spec) if space.group not in ROTATED
            ),
        )
        if self.stored < SINGLE:
            single, double = single + double, 0.0
        once = Labour(single, double, moved) + solved
        return Labour(ROUNDS * once.single, ROUNDS * once.double, ROUNDS * once.moved, ROUNDS * once.seconds)

    def _flow(self) -> Labour:
        """Every space once: carry along what is read, multiply, solve; then carry everything."""
        single, moved = 0.0, 0.0
        for axes in self.spec.tensors().values():
            size, units = prod(axis.size for axis in axes), sum(axis.size for axis in axes)
            single += 2 * size * units + 2 * size * units
            moved += PASSES * size * SINGLE
        moved += sum(SCALINGS * SINGLE * space.units**2 for space in self.matched if space.within is None)
        return Labour(single=single, moved=moved)


def _movable(space: Space) -> bool:
    return any(each.free for each in (*space.ancestors(), space))


def _times(space: Space) -> int:
    """How many of it there are, within the spaces around it."""
    return prod(parent.units for parent in space.ancestors())


def _map_bytes(space: Space, soft: int) -> int:
    """`soft`: bytes of an entry of a soft plan, if it is one."""
    if soft:
        return soft * space.units**2
    return DOUBLE * (space.units**2 if space.group in ROTATED or space.group is Group.COMPLEX else space.units)


def rates() -> Rates:
    """What this machine does now, with the threads that torch has."""
    single, double = (torch.randn(512, 512, dtype=dtype) for dtype in (torch.float32, torch.float64))
    long, products = torch.zeros(2**22), 2 * 512**3
    return Rates(
        products / _seconds(partial(torch.matmul, single, single)),
        products / _seconds(partial(torch.matmul, double, double)),
        2 * SINGLE * len(long) / _seconds(partial(torch.add, long, 1)),
    )


def _seconds(work: Callable[[], object], times: int = 5) -> float:
    work()
    start = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - start) / times
