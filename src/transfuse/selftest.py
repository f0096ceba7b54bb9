"""Small problems with known answers, one for every solver and every device: whether the numbers here are right."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import nan

import torch

from transfuse.transport.assignment import assignment
from transfuse.transport.sinkhorn import sinkhorn
from transfuse.transport.solve import ACCEPTED, procrustes

UNITS, SAMPLES = 200, 64
REGULARISATION = 0.1  # of the mean cost
PRODUCT = 1e-3  # relative error of a product in single precision: GPUs may round its factors


@dataclass(frozen=True)
class Trial:
    """How far from the known answer, and how far it may be."""

    name: str
    error: float
    allowed: float

    @property
    def passed(self) -> bool:
        """Nor is an error that is no number."""
        return self.error <= self.allowed


def trials(devices: Sequence[str]) -> Iterator[Trial]:
    """Every one, on the CPU; products on each of `devices`."""
    generator = torch.Generator().manual_seed(0)
    units = torch.randn(UNITS, SAMPLES, generator=generator, dtype=torch.float64)
    order = torch.randperm(UNITS, generator=generator)
    wrong = (assignment(units @ units[order].T) != order).double().mean()
    yield Trial("share of a permutation's units not recovered", float(wrong), 0.0)
    cost = torch.rand(UNITS, SAMPLES, generator=generator, dtype=torch.float64)
    plan = sinkhorn(cost, REGULARISATION * float(cost.mean())).plan.double()
    off = sum(float((plan.sum(axis) - 1 / size).abs().sum()) for axis, size in ((1, UNITS), (0, SAMPLES)))
    yield Trial("marginals of an entropic plan", off, ACCEPTED)
    turn = torch.linalg.qr(torch.randn(SAMPLES, SAMPLES, generator=generator, dtype=torch.float64))[0]
    found, _ = procrustes(units.T @ (units @ turn))
    yield Trial("entries of a rotation, recovered", float((found - turn).abs().max()), 1e-9)
    for device in devices:
        yield Trial(f"a product on {device}", _product(units, device), PRODUCT)


def _product(units: torch.Tensor, device: str) -> float:
    due = units @ units.T
    try:
        there = units.float().to(device)
        return float(((there @ there.T).cpu().double() - due).abs().max() / due.abs().max())
    except RuntimeError:  # a device that is there and cannot compute
        return nan
