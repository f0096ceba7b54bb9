"""What a user may choose, checked: from keyword arguments, flags, or a strict YAML file with the same names.

Nothing here imports torch before it has to, so that a mistyped option is answered at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from transfuse.base.sizes import parse_bytes
from transfuse.config.literals import (
    EXACT,
    FLOW,
    LEARNING,
    Align,
    Augment,
    Basis,
    Cost,
    Dtype,
    Evidence,
    FlowOptions,
    Groups,
    Heads,
    LearningOptions,
    Merge,
    Merging,
    Objective,
    Part,
    Plan,
    Policy,
    Queries,
    Rules,
    Scale,
    TeacherWeighting,
    Transform,
    Values,
    Vocabulary,
)
from transfuse.config.messages import error_message
from transfuse.config.validation import check_data, check_together
from transfuse.errors import ConfigError

if TYPE_CHECKING:
    import torch


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("should be a number")
    return value


def _list(value: object) -> object:
    """`0.7,0.3`, as the flag is written, is a list too."""
    return tuple(value.split(",")) if isinstance(value, str) else value


Memory = Annotated[int, BeforeValidator(parse_bytes), Field(ge=1)]
Count = Annotated[int, Field(ge=1, strict=True)]
Finite = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Share = Annotated[Finite, Field(ge=0)]


def _own_gpu() -> str:
    """Of several processes on one machine, each has its own."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if "LOCAL_RANK" in os.environ else "cuda"


class Settings(BaseModel):
    """What every run has; more options stand in what is made of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    batch_size: Count = 100
    seed: Annotated[int, Field(ge=0, strict=True)] = 0
    device: str = "auto"
    allow_pickle: Annotated[bool, Field(strict=True)] = False
    spec: str | None = None

    def check(self, labels: Mapping[str, str]) -> None:
        """Raise `ConfigError` for options that say nothing together; `labels`: what to call each."""

    def pickle_policy(self) -> Literal["refuse", "allow"]:
        """Whether pickled weights may be read."""
        return "allow" if self.allow_pickle else "refuse"

    def torch_device(self) -> torch.device:
        """The device to compute on; `auto` takes CUDA where there is one."""
        import torch

        try:
            device = torch.device(
                (_own_gpu() if torch.cuda.is_available() else "cpu") if self.device == "auto" else self.device
            )
            probe = torch.ones(1, device=device)
            probe.item()  # "meta", which holds no numbers, fails here too
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise ConfigError(f"device: {self.device!r} cannot be used here ({reason}); try cpu") from error
        return probe.device  # with its number


class Options(Settings):
    """How models are fused.

    `auto` merge: least squares where data is given and the alignment keeps functions, else the mean. `auto` evidence:
    weights without data, and where layers are fitted anyway; else activations for flow, both for exact.
    """

    align: Align = "exact"
    merge: Merging = "auto"
    evidence: Literal["auto", Evidence] = "auto"
    plan: Plan = FlowOptions.plan
    regularization: Annotated[Finite, Field(gt=0)] | None = None
    support: Annotated[Finite, Field(gt=1)] | None = None
    cost: Cost = FlowOptions.cost
    scale: Scale = FlowOptions.scale
    transform: Transform = FlowOptions.transform
    policy: Policy = FlowOptions.policy
    queries: Queries = FlowOptions.queries
    values: Values = FlowOptions.values
    heads: Heads = FlowOptions.heads
    tokens: Annotated[str, Field(pattern=r"^(all|class|window-[1-9]\d*)$")] = FlowOptions.tokens
    max_loss: Annotated[Finite, Field(gt=0)] | None = None
    keep: Annotated[tuple[Part, ...], BeforeValidator(_list)] = FlowOptions.keep
    rules: Rules = FlowOptions.rules
    weights: Annotated[tuple[Share, ...], BeforeValidator(_list)] | None = None
    samples: Count | None = None
    dtype: Dtype = "auto"
    vocab: Vocabulary = "same"
    groups: Groups = "all"
    basis: Basis = "auto"
    trust: TeacherWeighting = "even"
    objective: Objective = LearningOptions.objective
    steps: Count = LearningOptions.steps
    learning_rate: Annotated[Finite, Field(gt=0)] = LearningOptions.learning_rate
    augment: Augment = LearningOptions.augment

    def check(self, labels: Mapping[str, str]) -> None:
        check_together(self, labels)

    def normalised_weights(self, models: int) -> list[float]:
        """One weight per model, summing to one. Raises `ConfigError` on a wrong number or a zero sum."""
        weights = (1.0,) * models if self.weights is None else self.weights
        if len(weights) != models:
            raise ConfigError(
                f"weights: {len(weights)} given for {models} models; give one per model, the anchor's first"
            )
        if not 0 < sum(weights) < float("inf"):
            raise ConfigError("weights: their sum must be positive and finite")
        return [weight / sum(weights) for weight in weights]

    def merging(self, data: bool) -> Merge:
        """How models are merged, where there is data and where there is none."""
        if self.merge == "auto":
            return "least-squares" if data and self.align in EXACT else "mean"
        return self.merge

    def check_data(self, data: bool, labels: Mapping[str, str]) -> None:
        """Raise `ConfigError` for options that ask for samples where there are none, or do nothing with them."""
        check_data(self, data, labels)

    def paper(self) -> FlowOptions:
        """The options of the flow."""
        return FlowOptions(**self.model_dump(include=set(FLOW)))

    def sample_count(self) -> int:
        """Calibration samples: as given, else the paper's 200 for flow, 2,000 for exact and to fit layers by."""
        return self.samples or (200 if self.align == "flow" and self.merging(True) == "mean" else 2000)

    def needs_labels(self) -> bool:
        """Whether calibration samples are looked at with their labels."""
        asks_labels = self.learns and self.objective == "labels"
        return self.max_loss is not None or self.trust == "labels" or asks_labels

    @property
    def learns(self) -> bool:
        """Whether maps or the merged weights are learned by gradient descent."""
        return "learned" in (self.align, self.merge)

    def learning(self) -> LearningOptions:
        """How."""
        return LearningOptions(**self.model_dump(include=set(LEARNING)))

    def torch_dtype(self) -> torch.dtype | None:
        """The dtype to write; None for the anchor's."""
        import torch

        return None if self.dtype == "auto" else getattr(torch, self.dtype)


class Job(Options):
    """A whole run of `transfuse fuse`, as a configuration file holds it."""

    models: tuple[str, ...] = ()
    data: str | None = None
    output: str | None = None
    cache: str | None = None
    max_memory: Memory | None = None
    max_device_memory: Memory | None = None
    overwrite: Annotated[bool, Field(strict=True)] = False
    report: Annotated[bool, Field(strict=True)] = False

    def check(self, labels: Mapping[str, str]) -> None:
        super().check(labels)
        self.check_data(self.data is not None, labels)

    def options(self) -> dict[str, Any]:
        """What was chosen of `Options`, as keyword arguments of `transfuse.fuse`."""
        return self.model_dump(include=set(Options.model_fields), exclude_unset=True)


Chosen = TypeVar("Chosen", bound=Settings)


def make(kind: type[Chosen], values: Mapping[str, Any], labels: Mapping[str, str] | None = None) -> Chosen:
    """Build options from `values`, or raise a `ConfigError` of one line.

    Args:
        labels: what to call each option in the message ("--align", "job.yaml, line 3: align"); else its name.
    """
    labels = labels or {}
    try:
        chosen = kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name, *rest = (str(part) for part in first["loc"])
        item = f" item {int(rest[-1]) + 1}" if rest and rest[-1].isdigit() else ""
        raise ConfigError(f"{labels.get(name, name)}:{item} {error_message(name, first, kind.model_fields)}") from error
    chosen.check(labels)
    return chosen
