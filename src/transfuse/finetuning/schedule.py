"""How a model is fine-tuned, as a user may choose it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Literal

from pydantic import Field

from transfuse.config.literals import Augment, TeacherWeighting
from transfuse.config.options import Count, Finite, Settings
from transfuse.errors import ConfigError

Decay = Literal["cosine", "linear", "constant"]
Precision = Literal["float32", "bfloat16", "float16"]
Fraction = Annotated[Finite, Field(ge=0, le=1)]
Positive = Annotated[Finite, Field(gt=0)]


def check_taught(given: Collection[str], teachers: Collection[object], labels: Mapping[str, str]) -> None:
    """Raise `ConfigError` for options that only make sense with teachers."""
    for name in ("distill", "temperature", "trust"):
        if name in given and not teachers:
            raise ConfigError(f"{labels.get(name, name)}: there is no teacher; give one, or leave it out")
    if "trust" in given and len(teachers) < 2:
        raise ConfigError(f"{labels.get('trust', 'trust')}: there is one teacher; give two or more, or leave it out")


class Schedule(Settings):
    """AdamW with warm-up and decay; with teachers, their averaged outputs are learned from too.

    `distill`: the teachers' part of the loss, 1 for nothing but them (labels are then not needed). `trust`: which of
    several teachers is believed about a sample.
    """

    epochs: Positive = 1.0
    learning_rate: Positive = 1e-4
    batch_size: Count = 64
    decay: Decay = "cosine"
    warmup: Annotated[Finite, Field(ge=0, lt=1)] = 0.05
    weight_decay: Annotated[Finite, Field(ge=0)] = 0.05
    label_smoothing: Annotated[Finite, Field(ge=0, lt=1)] = 0.0
    augment: Augment = "none"
    distill: Fraction = 0.5
    temperature: Positive = 1.0
    trust: TeacherWeighting = "even"
    precision: Precision = "float32"
    samples: Count | None = None

    def check(self, labels: Mapping[str, str]) -> None:
        """Raise `ConfigError` for a device that training cannot be bound to, and for what would have no effect."""
        if self.distill == 1 and self.label_smoothing:
            name = labels.get("label_smoothing", "label_smoothing")
            raise ConfigError(f"{name}: with distill 1 no labels are looked at; leave it out")
        if self.device not in ("auto", "cpu", "cuda"):
            raise ConfigError(
                f"{labels.get('device', 'device')}: training takes cpu, or every GPU it sees, not {self.device!r};"
                " choose GPUs by CUDA_VISIBLE_DEVICES"
            )
