"""Declare the options of shrinking: the sizes of the smaller model, and how long it is trained."""

from __future__ import annotations

from os import PathLike
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from transfuse.config.fields import Count, Finite, Positive, option
from transfuse.config.labels import Labels, label, refused, spelled
from transfuse.config.literals import Dtype, LearningOptions
from transfuse.config.training_length import TrainingLength
from transfuse.config.validation import check_trains
from transfuse.errors import ConfigError

SIZES = "Sizes"
SIZE_NAMES = ("hidden_size", "layers", "intermediate_size", "heads", "kv_heads", "head_size", "experts")
Ratio = Annotated[Finite, Field(gt=0, lt=1)]


def _whole_or_share(value: float) -> float:
    if value > 1 and value != int(value):
        raise ValueError("should be a whole number, or a share below 1")
    return value


Experts = Annotated[Positive, AfterValidator(_whole_or_share)]


def _path(value: object) -> object:
    """Return a path as text."""
    if not isinstance(value, str | PathLike):
        raise ValueError("should be the path of a model; its sizes can also be given as hidden_size or layers")
    return str(value)


class ShrinkOptions(TrainingLength):
    """How a model is made smaller."""

    hidden_size: Count | None = option(None, "Width of the residual stream.", "NUMBER", SIZES)
    layers: Count | None = option(None, "Number of blocks.", "NUMBER", SIZES)
    intermediate_size: Count | None = option(None, "Hidden units of each feed-forward network.", "NUMBER", SIZES)
    heads: Count | None = option(None, "Attention heads of each block.", "NUMBER", SIZES)
    kv_heads: Count | None = option(
        None,
        "Heads of keys and values of each block. Default: each one serves as many query heads as before.",
        "NUMBER",
        SIZES,
    )
    head_size: Count | None = option(
        None,
        "Channels of each head. With rotary positions, the old size has to be a multiple.",
        "NUMBER",
        SIZES,
    )
    experts: Experts | None = option(
        None, "Experts of each block: how many, or the share that stays, such as 0.5.", "NUMBER", SIZES
    )
    like: Annotated[str, BeforeValidator(_path)] | None = option(
        None, "Take all sizes from this model.", "MODEL", SIZES
    )
    ratio: Ratio | None = option(
        None,
        "Keep about this share of the parameters. Samples decide which sizes shrink.",
        "FRACTION",
        SIZES,
    )
    samples: Count | None = option(
        None,
        "Use at most this many samples. Default: up to 10000 small images, else 2000; without a GPU, only as many as"
        " training can process in the time allowed.",
        "COUNT",
        "Data and output",
    )
    dtype: Dtype = option("auto", "Precision of the written weights. auto: that of MODEL.", panel="Data and output")

    def check(self, labels: Labels) -> None:
        """Raise `ConfigError` unless the sizes are given in one way, and the length of the training too."""
        given = [name for name in (*SIZE_NAMES, "like", "ratio") if getattr(self, name) is not None]
        if not given:
            names = ["ratio", "like", *SIZE_NAMES]
            ways = [spelled(labels, name) for name in names]
            raise ConfigError(
                f"no size given; say how small the model should be, with {', '.join(ways[:-1])} or {ways[-1]}"
            )
        for name in ("like", "ratio"):
            others = [other for other in given if other != name]
            if name in given and others:
                why = f"{label(labels, others[0])} says how small the model should be, too; give one of them"
                raise refused(labels, name, why)
        self.check_length(labels)
        check_trains([] if self.learning_rate is None else ["learning_rate"], self.learning(), labels)

    def expert_count(self, experts: int | None) -> int | None:
        """Return how many experts of each block stay.

        Args:
            experts: those of the large model; None: it has none.

        Raises:
            ConfigError: the share is less than one expert, or all of them.
        """
        if self.experts is None or self.experts >= 1:
            return None if self.experts is None else int(self.experts)
        if experts and self.experts * experts < 0.5:
            raise ConfigError(
                f"experts: {self.experts:g} of {experts} experts is less than one; give 1, or a larger share"
            )
        count = max(1, round(self.experts * (experts or 1)))
        if count == experts:
            raise ConfigError(f"experts: {self.experts:g} of {experts} experts rounds to all of them; give fewer")
        return count

    def sample_count(self) -> int:
        """Return the number of samples: as given, else 2,000.

        There may be more images, or fewer samples (`data.sample_budget`).
        """
        return self.samples or 2000

    def learning(self) -> LearningOptions:
        """Return the options of training."""
        return LearningOptions(steps=self.steps, minutes=self.learning_minutes(), learning_rate=self.learning_rate)
