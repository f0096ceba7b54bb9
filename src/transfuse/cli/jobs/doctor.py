"""The work of `transfuse doctor`: of an install, or of a model on it."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from statistics import fmean

from transfuse.base.budget import available_bytes
from transfuse.base.progress import Progress
from transfuse.base.sizes import in_words
from transfuse.checkpoint.load import load_empty
from transfuse.cli.jobs.inspection import fusible, inspect
from transfuse.config.options import Options
from transfuse.data.samples import load_samples
from transfuse.data.splits import CALIBRATION
from transfuse.data.tasks import own_processor
from transfuse.errors import ConfigError, SpecError
from transfuse.fusion.cost_model import START, Estimate, rates
from transfuse.fusion.match import load
from transfuse.fusion.plan import Kind, Model, by_kind, header
from transfuse.install import Device, Package, Threads, devices, threads
from transfuse.selftest import Trial, trials
from transfuse.verification.declaration import check_declaration
from transfuse.verification.self_fusion import Recovery, recover

LONG = 60.0  # seconds, from which it is said beforehand how many


@dataclass(frozen=True)
class Install:
    """What is installed here, and whether its numbers are right."""

    versions: Mapping[str, str]
    packages: Sequence[Package]
    devices: Sequence[Device]
    threads: Threads
    trials: Sequence[Trial]

    @property
    def problems(self) -> list[str]:
        """What is wrong, a line each."""
        packages = [each.problem for each in self.packages if each.problem]
        broken = [f"{each.name} cannot be used ({each.fault}); see its driver" for each in self.devices if each.fault]
        return [*packages, *broken] + [
            f"self-test: {each.name} off by {each.error:.1e}, over {each.allowed:.0e}"
            for each in self.trials if not each.passed
        ]  # fmt: skip

    @property
    def advice(self) -> list[str]:
        """What is not wrong, but slow."""
        found = [
            f"{each.name} is not installed: permutations take longer to find; pip install 'transfuse[fast]'"
            for each in self.packages if each.extra and each.found is None
        ]  # fmt: skip
        if self.threads.used > self.threads.cores:
            found.append(f"{self.threads.used} threads share {self.threads.cores} cores; set OMP_NUM_THREADS to that")
        return found

    def as_dict(self) -> dict[str, object]:
        """All of it."""
        return asdict(self) | {"problems": self.problems, "advice": self.advice}


@dataclass(frozen=True)
class Examination:
    """What was found of a model.

    Attributes:
        declaration: the largest change of an answer when everything declared moves; None: it failed, for `fault`.
        recovery: None where the declaration is false.
    """

    model: Model
    dtype: str
    spaces: Mapping[Kind, Sequence[str]]
    declaration: float | None
    fault: str | None
    recovery: Recovery | None

    @property
    def problems(self) -> list[str]:
        """What is wrong, a line each."""
        found = [self.fault, self.recovery and self.recovery.problem]
        return [each for each in found if each]

    def shares(self, found: Mapping[str, float]) -> list[float]:
        """Of every kind of space, the mean share of units in their place."""
        return [fmean(found[name] for name in names) for names in self.spaces.values()]

    def as_dict(self) -> dict[str, object]:
        """All of it, shares by kind of space."""
        kinds = [asdict(kind) for kind in self.spaces]
        recovery = None
        if self.recovery is not None:
            recovery = asdict(self.recovery)
            before, after = (self.shares(recovery.pop(name)) for name in ("before", "after"))
            kinds = [
                kind | {"in_place_before": first, "in_place_after": last}
                for kind, first, last in zip(kinds, before, after, strict=True)
            ]
        return {
            "model": asdict(self.model) | {"dtype": self.dtype}, "spaces": kinds, "declaration": self.declaration,
            "recovery": recovery, "problems": self.problems,
        }  # fmt: skip


def install_job(packages: Sequence[Package]) -> Install:
    """The whole install, its packages looked at already."""
    found = devices()
    versions = {"transfuse": version("transfuse"), "python": platform.python_version(), "system": platform.platform()}
    return Install(versions, packages, found, threads(), list(trials([each.name for each in found if not each.fault])))


def model_job(name: str, data: str | None, options: Options, progress: Progress) -> Examination:
    """A checkpoint's declaration, and whether it comes back from a fusion with a hidden copy of itself.

    Raises:
        TransfuseError: the checkpoint, the data or an option is not what it should be, or memory does not suffice.
    """
    options.torch_device()
    inspect([name], options, fusible)
    samples = None if data is None else load_samples(data, CALIBRATION)
    empty = load_empty(name, pickle=options.pickle_policy())
    dtype = str(empty.dtype).removeprefix("torch.")
    names: dict[Kind, list[str]] = {}
    try:
        cost = Estimate([empty, empty], options)
        names = {kind: [space.name for space in alike] for kind, alike in by_kind(cost.matched).items()}
        _foretell(name, cost, progress)
        model = load(name, options)
        declaration = check_declaration(model, options.seed)
    except SpecError as error:
        return Examination(header(name, empty), dtype, names, None, str(error), None)
    processor = None if data is None else own_processor(name, model)
    recovery = recover(model, options, samples, processor, progress)
    return Examination(header(name, empty), dtype, names, declaration, None, recovery)


def _foretell(name: str, cost: Estimate, progress: Progress) -> None:
    """Say what it takes where that is long. Raises `ConfigError` where memory does not suffice."""
    seconds, room = cost.labour.takes(rates()), available_bytes()
    if cost.loaded - START > room:
        raise ConfigError(
            f"{name}: this takes about {in_words(cost.loaded)} of memory, and {in_words(room)} are free; take a smaller"
            " model of its kind, or a larger machine"
        )
    if seconds > LONG:
        progress.tell(f"This takes about {seconds / 60:.0f} minutes and {in_words(cost.loaded)} of memory.")
