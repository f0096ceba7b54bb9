"""Declare the options of fine-tuning."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Literal

from pydantic import Field

from transfuse.config.fields import Count, Finite, Fraction, Positive, option
from transfuse.config.labels import BY_NAME, Labels, refused
from transfuse.config.literals import Augment, TeacherWeighting
from transfuse.config.settings import Settings

Decay = Literal["cosine", "linear", "constant"]
Precision = Literal["float32", "bfloat16", "float16"]
# Panels of the help.
OPTIMIZER = "Optimizer"
TEACHERS = "Teachers"
RUN = "Computation"


def check_teacher_options(names: Collection[str], teachers: Collection[object], labels: Labels = BY_NAME) -> None:
    """Raise `ConfigError` for options that only have an effect with teachers.

    Args:
        names: the names of the options that are set.
        labels: the spelling of an option in messages, by name.
    """
    for name in ("distill", "temperature", "teacher_weighting"):
        if name in names and not teachers:
            raise refused(labels, name, "there is no teacher; give a teacher, or leave this option out")
    if "teacher_weighting" in names and len(teachers) < 2:
        why = "there is only one teacher; give two or more, or leave this option out"
        raise refused(labels, "teacher_weighting", why)


class FinetuneOptions(Settings):
    """Hold the options of training with AdamW, warmup and decay, on labels, the outputs of teachers, or both."""

    epochs: Positive = option(1.0, "Passes over the samples; fractions are allowed.", "NUMBER")
    learning_rate: Positive = option(1e-4, "Highest learning rate.", "NUMBER", OPTIMIZER)
    batch_size: Count = option(64, "Samples per step, on each GPU.", "COUNT", RUN)
    decay: Decay = option("cosine", "Decay of the learning rate; cosine and linear end at zero.", panel=OPTIMIZER)
    warmup: Annotated[Finite, Field(ge=0, lt=1)] = option(
        0.05, "Fraction of the steps for warmup.", "FRACTION", OPTIMIZER
    )
    weight_decay: Annotated[Finite, Field(ge=0)] = option(0.05, "Weight decay.", "NUMBER", OPTIMIZER)
    label_smoothing: Annotated[Finite, Field(ge=0, lt=1)] = option(0.0, "Label smoothing.", "FRACTION", OPTIMIZER)
    augment: Augment = option("none", "Augment images. crop: shift by up to an eighth of a side.", panel=OPTIMIZER)
    distill: Fraction = option(
        0.5, "Share of the teachers in the loss. With 1, no labels are used.", "FRACTION", TEACHERS
    )
    temperature: Positive = option(1.0, "Temperature of distillation.", "NUMBER", TEACHERS)
    teacher_weighting: TeacherWeighting = option(
        "uniform",
        "How to weight the teachers for each sample: equally, by confidence, or by the probability of the true label.",
        panel=TEACHERS,
    )
    precision: Precision = option("float32", "Precision of the computation (mixed).", panel=RUN)
    samples: Count | None = option(None, "Train on this many samples only.", "COUNT")
    device: str = option("auto", "auto: all GPUs, or the CPU if there is none.", "auto|cpu", RUN)

    def check(self, labels: Labels) -> None:
        """Raise `ConfigError` for a device that training cannot use, and for teachers or labels without an effect."""
        if self.distill == 0:
            why = "with 0, teachers have no effect; leave them and this option out, or give a larger share"
            raise refused(labels, "distill", why)
        if self.distill == 1 and self.label_smoothing:
            why = "with distill 1, no labels are used; leave this option out"
            raise refused(labels, "label_smoothing", why)
        if self.device not in ("auto", "cpu", "cuda"):
            runs = f"training runs on cpu or on all visible GPUs, not on {self.device!r}"
            raise refused(labels, "device", f"{runs}; choose GPUs by CUDA_VISIBLE_DEVICES")
