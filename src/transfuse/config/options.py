"""How models are fused: options, checked, from keyword arguments, flags, or a strict YAML file with the same names.

Every option of a fusion is declared once: here, or in training_length.py, settings.py, data_options.py, flow_options.py
or job.py. Nothing imports torch before it has to, so that a mistyped option is reported at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import field_validator

from transfuse.base.counted import counted
from transfuse.config.fields import Count, Growth, List, NotNegative, option
from transfuse.config.flow_options import FlowOptions
from transfuse.config.labels import BY_NAME, Labels, refused
from transfuse.config.layer_values import LayerValue, numbers, overall
from transfuse.config.literals import (
    DENSITY,
    EXACT,
    LEARNING,
    Basis,
    Dtype,
    Groups,
    Head,
    LayerOptions,
    LearningOptions,
    MatchOn,
    Objective,
    SameOrAnchor,
    TaskWeights,
    TeacherWeighting,
    Variation,
    Vocabulary,
)
from transfuse.config.training_length import TRAINING, TrainingLength
from transfuse.config.validation import check_together

AUTO_MERGE = "learned"  # with samples
ALIGNMENT = "Alignment"


class Options(TrainingLength):
    """How models are fused."""

    align: str = option(
        "exact",
        "Match units by the architecture's symmetries (exact), by these and then training (learned), by the paper's"
        " transport maps (flow), or not at all (none). Models of one base are not aligned by default.",
        "none|flow|exact|learned",
        ALIGNMENT,
    )
    merge: str = option(
        "auto",
        "mean: the weighted mean. least-squares: then fit every layer to the parents' outputs on --data. learned: start"
        " from that fit or from a parent, whichever held-out samples prefer, and train all weights. auto: learned with"
        " --data, else mean; mean for flow and none. slerp: the arc between two models. With --base: task-arithmetic,"
        " ties, dare-linear, dare-ties.",
        "auto|mean|least-squares|learned|slerp|ties|...",
        "Merging",
    )
    match_on: Literal["auto", MatchOn] = option(
        "auto",
        "Match units by their activations, their weights, or both. auto: activations for flow with --data; both for"
        " exact with --data and --merge mean; else weights.",
        panel=ALIGNMENT,
    )
    weights: Annotated[tuple[LayerValue, ...], List] | None = option(
        None,
        "Weight of each model, the anchor's first. 0.2:0.8 changes from the first layer to the last. Default: equal.",
        "W,W,...",
        "Merging",
    )
    density: Annotated[tuple[LayerValue, ...], List] | None = option(
        None,
        "ties, dare-linear, dare-ties: the share of the entries of each task vector that is kept, for all models or one"
        f" by one. Default: {DENSITY}.",
        "D,D,...",
        "Merging",
    )
    task_scale: NotNegative = option(1.0, "With --base: factor of the merged task vector.", "NUMBER", "Merging")
    task_weights: TaskWeights = option(
        "auto",
        "With --base: whether weights of task vectors count as given (sum), or relative to each other (mean). auto: sum"
        " for task-arithmetic and dare-linear, mean for ties and dare-ties.",
        panel="Merging",
    )
    samples: Count | None = option(
        None,
        "Use at most this many calibration samples. Default: 200 for flow with mean, else 2000. Where weights are"
        " learned: up to 10000 images, and without a GPU, only as many samples as training can process in the time"
        " allowed.",
        "COUNT",
        "Data and output",
    )
    dtype: Dtype = option("auto", "Precision of the written weights. auto: the anchor's.", panel="Data and output")
    adapter_out: Count | None = option(
        None,
        "Write OUT/adapter too: the difference of the fused model from --base, else from the anchor, as a LoRA adapter"
        " of PEFT with at most this rank.",
        "RANK",
        "Data and output",
    )
    vocab: Vocabulary = option(
        "same",
        "same: tokenizers must agree. shared: fuse the rows of the tokens that both know, by their text. anchor: keep"
        " all rows of the anchor.",
        panel="Merging",
    )
    head: Head = option(
        "fused",
        "fused: models of one class and one task. anchor: fuse the trunks, and keep the head of the anchor; the others"
        " may have other heads, other classes, or none.",
        panel="Merging",
    )
    grow: Growth | None = option(
        None,
        "Let the result have up to this many times the anchor's parameters, more than 1 and at most 2: more hidden"
        " units, and more heads where heads can be added. Needs --data.",
        "RATIO",
        "Merging",
    )
    positions: SameOrAnchor = option(
        "same",
        "same: images or texts of one size. anchor: the positions of other models are interpolated (images) or cut off"
        " (texts) to the size of the anchor.",
        panel="Merging",
    )
    settings: SameOrAnchor = option(
        "same",
        "same: models that compute alike. anchor: epsilons of norms, approximations of GELU, rotary frequencies and"
        " attention windows become those of the anchor. With data, the other models teach as they were.",
        panel="Merging",
    )
    groups: Groups = option(
        "all", "For exact and learned: use every symmetry (all), or only permutations (a control).", panel=ALIGNMENT
    )
    basis: Basis = option(
        "auto",
        "For exact and learned: align to the anchor, or to each other (auto: with three or more models).",
        panel=ALIGNMENT,
    )
    teacher_weighting: Literal["auto", TeacherWeighting] = option(
        "auto",
        "How to weight the parents for each sample: equally, by confidence (for images, also on shifted copies), or by"
        " the probability of the true label. auto: labels for texts, whose tokens are their labels, else confidence.",
        panel="Merging",
    )
    objective: Objective = option(
        LearningOptions.objective, "Target: the parents' mean prediction, or the labels.", panel=TRAINING
    )
    augment: Variation = option(
        LearningOptions.augment,
        "Changes of the training samples. auto: variants that the parents predict too: images are shifted and mixed in"
        " pairs, masked texts get other masks and tokens drawn from the parents. crop: shifted images. flip: mirrored.",
        panel=TRAINING,
    )
    flow: FlowOptions = FlowOptions()

    def check(self, labels: Labels) -> None:
        """Raise `ConfigError` for options that have no effect beside the others."""
        check_together(self, labels)

    def normalized_weights(self, models: int, labels: Labels = BY_NAME) -> list[float]:
        """Return one weight per model, the mean over its layers, without its sign; they sum to one.

        Args:
            labels: how a message names each option.

        Raises:
            ConfigError: the number of weights, densities or models is wrong, or the weights are all zero.
        """
        weights = [1.0] * models if self.weights is None else [abs(overall(weight)) for weight in self.weights]
        given = f"given for {counted(models, 'model')}"
        if len(weights) != models:
            raise refused(labels, "weights", f"{len(weights)} {given}; give one per model, the anchor's first")
        if self.density is not None and len(self.density) not in (1, models):
            raise refused(labels, "density", f"{len(self.density)} {given}; give one, or one per model")
        if self.merge == "slerp" and models != 2:
            raise refused(labels, "merge", f"slerp takes two models, not {models}; give two, or choose mean")
        if not 0 < sum(weights) < float("inf"):
            raise refused(labels, "weights", "their sum must be positive and finite")
        return [weight / sum(weights) for weight in weights]

    @field_validator("density", mode="before")
    @classmethod
    def _one_for_all(cls, value: object) -> object:
        return (value,) if isinstance(value, int | float | Mapping) else value

    @field_validator("density")
    @classmethod
    def _shares(cls, value: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        for share in numbers(value) if value else ():
            if not 0 < share <= 1:
                raise ValueError(f"{share} is not above 0 and at most 1")
        return value

    def merging(self, data: bool) -> str:
        """Return the merge method, with or without data."""
        if self.merge == "auto":
            aligned = self.align in EXACT or "align" not in self.model_fields_set
            learnable = AUTO_MERGE if self.head == "fused" else "least-squares"  # other heads predict something else
            return learnable if data and aligned else "mean"
        return self.merge

    def needs_no_declaration(self, has_base: bool) -> bool:
        """Return whether models are merged as they are, so that their class needs no declaration."""
        return self.align == "none" or (has_base and "align" not in self.model_fields_set)

    def without_alignment(self) -> Self:
        """Return the options for models that need no alignment, where the user chose none."""
        options = self.model_copy(update={"align": "none"})
        options.model_fields_set.discard("align")  # so that the merge method stays
        return options

    def with_chosen_alignment(self) -> Self:
        """Return the options as if the user had chosen the alignment, so that none is not taken instead."""
        return self.model_copy(update={"align": self.align})

    def layers(self) -> LayerOptions:
        """Return the numbers that may change over the depth."""
        return LayerOptions(self.weights, self.density, self.task_scale, self.task_weights)

    def sample_count(self) -> int:
        """Return the number of calibration samples: as given, else the paper's 200 for flow, 2,000 otherwise.

        Where weights are learned, there may be more images, or fewer samples (`data.sample_budget`).
        """
        return self.samples or (200 if self.align == "flow" and self.merging(True) == "mean" else 2000)

    def needs_labels(self) -> bool:
        """Return whether calibration samples need labels."""
        trains_on_labels = self.learns and self.objective == "labels"
        return self.flow.max_loss is not None or self.teacher_weighting == "labels" or trains_on_labels

    @property
    def needs_equal_widths(self) -> bool:
        """Whether models are brought to the widths of the anchor before they are aligned."""
        return self.align in EXACT

    @property
    def learns(self) -> bool:
        """Whether maps or the merged weights are trained."""
        return "learned" in (self.align, self.merging(True))

    def learning(self) -> LearningOptions:
        """Return the options of training."""
        given = self.model_dump(include={*LEARNING} - {"minutes"})
        return LearningOptions(**given, minutes=self.learning_minutes())
