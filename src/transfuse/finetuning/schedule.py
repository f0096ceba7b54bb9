"""The options of fine-tuning."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Literal

from pydantic import Field

from transfuse.config.fields import Count, Finite, Fraction, Positive, option
from transfuse.config.literals import Augment, TeacherWeighting
from transfuse.config.options import Settings
from transfuse.errors import ConfigError

Decay = Literal["cosine", "linear", "constant"]
Precision = Literal["float32", "bfloat16", "float16"]
OPTIMIZER, TEACHERS, RUN = "Optimizer", "Teachers", "Computation"


def check_teacher_options(given: Collection[str], teachers: Collection[object], labels: Mapping[str, str]) -> None:
    """Raise `ConfigError` for options that only have an effect with teachers."""
    for name in ("distill", "temperature", "teacher_weighting"):
        if name in given and not teachers:
            raise ConfigError(f"{labels.get(name, name)}: there is no teacher; give one, or leave it out")
    if "teacher_weighting" in given and len(teachers) < 2:
        label = labels.get("teacher_weighting", "teacher_weighting")
        raise ConfigError(f"{label}: there is one teacher; give two or more, or leave it out")


class Schedule(Settings):
    """AdamW with warmup and decay, on labels, on the outputs of teachers, or on both."""

    epochs: Positive = option(1.0, "Passes over the samples; fractions are allowed.", "NUMBER")
    learning_rate: Positive = option(1e-4, "Highest learning rate.", "NUMBER", OPTIMIZER)
    batch_size: Count = option(64, "Samples per step, on each GPU.", "COUNT", RUN)
    decay: Decay = option("cosine", "Decay of the learning rate; cosine and linear end at zero.", panel=OPTIMIZER)
    warmup: Annotated[Finite, Field(ge=0, lt=1)] = option(0.05, "Fraction of the steps for warmup.", "PART", OPTIMIZER)
    weight_decay: Annotated[Finite, Field(ge=0)] = option(0.05, "Weight decay.", "NUMBER", OPTIMIZER)
    label_smoothing: Annotated[Finite, Field(ge=0, lt=1)] = option(0.0, "Label smoothing.", "PART", OPTIMIZER)
    augment: Augment = option("none", "Images only. crop: shifted by up to an eighth of a side.", panel=OPTIMIZER)
    distill: Fraction = option(0.5, "Share of the teachers in the loss. With 1, labels are not used.", "PART", TEACHERS)
    temperature: Positive = option(1.0, "Temperature of distillation.", "NUMBER", TEACHERS)
    teacher_weighting: TeacherWeighting = option(
        "uniform",
        "Weight of each teacher per sample: the same, by its confidence, or by its accuracy on labels.",
        panel=TEACHERS,
    )
    precision: Precision = option("float32", "Precision of the computation (mixed).", panel=RUN)
    samples: Count | None = option(None, "Train on this many samples only.", "COUNT")
    device: str = option("auto", "auto: every GPU there is, else the CPU.", "auto|cpu", RUN)

    def check(self, labels: Mapping[str, str]) -> None:
        """Raise `ConfigError` for a device that training cannot be bound to, and for an option without an effect."""
        if self.distill == 1 and self.label_smoothing:
            name = labels.get("label_smoothing", "label_smoothing")
            raise ConfigError(f"{name}: with distill 1 no labels are used; leave it out")
        if self.device not in ("auto", "cpu", "cuda"):
            raise ConfigError(
                f"{labels.get('device', 'device')}: training takes cpu, or every GPU it sees, not {self.device!r};"
                " choose GPUs by CUDA_VISIBLE_DEVICES"
            )
