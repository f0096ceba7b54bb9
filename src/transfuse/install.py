"""What this install is made of: packages as they are required, devices, threads, memory.

Nothing here imports a library before it is looked at, so that a broken one is told of and not met.
"""

import importlib
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, packages_distributions, requires, version

from packaging.requirements import Requirement

from transfuse.errors import first_line

EXTRA = "fast"  # the extra whose packages are told of where they are missing


@dataclass(frozen=True)
class Package:
    """One that transfuse requires, or can use.

    Attributes:
        found: its version; None: not there.
        fault: why it cannot be imported, in a line.
    """

    name: str
    needed: str
    extra: bool
    found: str | None
    fault: str | None = None

    @property
    def problem(self) -> str | None:
        """What is wrong with it, and what to do; of an extra that is not there, nothing."""
        if self.found is None:
            return None if self.extra else f"{self.name} is not installed; pip install '{self.name}{self.needed}'"
        if not Requirement(f"x{self.needed}").specifier.contains(self.found, prereleases=True):
            return f"{self.name} {self.found} is not {self.needed}; pip install '{self.name}{self.needed}'"
        return self.fault and f"{self.name} {self.found} cannot be imported ({self.fault}); install it again"


@dataclass(frozen=True)
class Device:
    """Something to compute on, and its memory in bytes; `fault`: why it cannot be used, in a line."""

    name: str
    what: str
    free_bytes: int = 0
    total_bytes: int = 0
    fault: str | None = None


@dataclass(frozen=True)
class Threads:
    """How many torch uses, of how many cores this process may run on; `limit`: OMP_NUM_THREADS, as it is set."""

    used: int
    cores: int
    limit: str | None


def packages() -> list[Package]:
    """Everything transfuse requires, and what its extra adds, each imported once."""
    modules: dict[str, list[str]] = {}
    for module, owners in packages_distributions().items():
        for owner in owners:
            modules.setdefault(_plain(owner), []).append(module)
    found = []
    for line in requires("transfuse") or []:
        one = Requirement(line)
        extra = one.marker is not None and not one.marker.evaluate({"extra": ""})
        if not extra or (one.marker and one.marker.evaluate({"extra": EXTRA})):
            found.append(_package(one, extra, modules.get(_plain(one.name), [])))
    return sorted(found, key=lambda each: (each.extra, each.name.lower()))


def _package(needed: Requirement, extra: bool, modules: Sequence[str]) -> Package:
    text = str(needed.specifier)
    try:
        found = version(needed.name)
        for module in [name for name in modules if not name.startswith("_")][:1]:
            importlib.import_module(module)
    except PackageNotFoundError:
        return Package(needed.name, text, extra, None)
    except Exception as error:  # whatever a broken package does
        return Package(needed.name, text, extra, found, first_line(error))
    return Package(needed.name, text, extra, found)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def devices() -> list[Device]:
    """The CPU, every CUDA device, and Apple's GPU."""
    import psutil
    import torch

    memory = psutil.virtual_memory()
    found = [Device("cpu", _processor(), int(memory.available), int(memory.total))]
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        name = f"cuda:{index}"
        try:
            free, total = torch.cuda.mem_get_info(index)
            found.append(Device(name, torch.cuda.get_device_name(index), free, total))
        except RuntimeError as error:  # in use by another, or a driver that does not fit
            found.append(Device(name, "", fault=first_line(error)))
    if torch.backends.mps.is_available():
        total = torch.mps.recommended_max_memory()
        found.append(Device("mps", "Apple GPU", total - torch.mps.driver_allocated_memory(), total))
    return found


def threads() -> Threads:
    """Of this process."""
    import torch

    able = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Threads(torch.get_num_threads(), able, os.environ.get("OMP_NUM_THREADS"))


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
