"""The values that options may have. No heavy imports."""

from dataclasses import dataclass, fields
from typing import Any, Literal

MatchOn = Literal["activations", "weights", "both"]
Plan = Literal["soft", "hard", "widening", "uniform"]
Cost = Literal["euclidean", "squared", "cosine"]
Scale = Literal["max", "mean", "median", "log", "none"]
Transform = Literal["standardize", "center", "normalize", "raw"]
Policy = Literal["mean", "scalar", "matrix", "skip", "branch", "identity"]
Queries = Literal["separate", "shared", "joint"]
Values = Literal["values", "context"]
Heads = Literal["crossed", "aware"]
Part = Literal["embeddings", "attention", "norms", "ffn", "biases", "head"]
Vocabulary = Literal["same", "shared", "anchor"]
Head = Literal["fused", "anchor"]
SameOrAnchor = Literal["same", "anchor"]
Groups = Literal["all", "permutations"]
Basis = Literal["auto", "anchor", "common"]
TeacherWeighting = Literal["uniform", "confidence", "labels"]
Effort = Literal["quick", "normal", "high"]
Objective = Literal["parents", "labels"]
Augment = Literal["none", "flip", "crop", "crop-flip"]
Variation = Literal["auto", Augment]
TaskWeights = Literal["auto", "mean", "sum"]
Dtype = Literal["auto", "float64", "float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class LearningOptions:
    """How maps, or the merged weights, are trained.

    Attributes:
        objective: the target: the mean prediction of the parents, or the labels.
        steps: at most; maps end early when held-out samples no longer improve. None: until they no longer improve,
            within the time.
        minutes: the time that learning may take, if the steps are not given.
        learning_rate: the initial one; for weights, relative to the size of each tensor. None: the usual one.
        augment: random changes of the images. auto: variants of texts and images, while weights are learned from the
            parents.
    """

    objective: Objective = "parents"
    steps: int | None = None
    minutes: float = 5.0
    learning_rate: float | None = None
    augment: Variation = "auto"

    @property
    def trains(self) -> bool:
        """Whether there are steps or time for training."""
        return self.steps is not None or self.minutes > 0


@dataclass(frozen=True)
class LayerOptions:
    """Numbers of each model that may change over the depth, as `config.layer_values` defines them.

    Attributes:
        weights: one per model, not normalized; None: equal.
        densities: the share of the entries of each task vector that is kept; one per model, or one for all.
        task_scale: a factor of the merged task vector.
        task_weights: whether the sum of task vectors is divided by their weights; auto: as usual for the method.
    """

    weights: tuple[Any, ...] | None = None
    densities: tuple[Any, ...] | None = None
    task_scale: float = 1.0
    task_weights: TaskWeights = "auto"

    @property
    def varies(self) -> bool:
        """Whether weights change from layer to layer."""
        return any(not isinstance(weight, float) for weight in self.weights or ())


@dataclass(frozen=True)
class MethodTraits:
    """What a merge method needs and takes; `merging.methods.merge_method` explains each."""

    needs_data: bool = False
    needs_base: bool = False
    sparse: bool = False
    summed: bool = False


# The alignments by name, and whether each keeps every model's function. `alignment.methods.alignment_method` adds to
# them.
ALIGNMENTS = {"none": True, "flow": False, "exact": True, "learned": True}
# The merge methods by name. `merging.methods.merge_method` adds to them.
MERGE_METHODS = {
    "mean": MethodTraits(),
    "least-squares": MethodTraits(needs_data=True),
    "learned": MethodTraits(needs_data=True),
    "slerp": MethodTraits(),
    "task-arithmetic": MethodTraits(needs_base=True, summed=True),
    "ties": MethodTraits(needs_base=True, sparse=True),
    "dare-linear": MethodTraits(needs_base=True, sparse=True, summed=True),
    "dare-ties": MethodTraits(needs_base=True, sparse=True),
}
# Those that read no samples. A method of your own may read them without needing them, so it is not here.
BY_WEIGHTS = frozenset(name for name, traits in MERGE_METHODS.items() if not traits.needs_data)
DENSITY = 0.5  # the default share of the entries of task vectors that a sparse method keeps
MINUTES: dict[Effort, float] = {"quick": 0.0, "normal": 5.0, "high": 30.0}  # that learning may take
KEEP_WEIGHT = 0.3  # in carry: of the loss on samples to keep; more of it carries less, and forgets less
PLUGINS = "transfuse.families"  # entry points: modules that register families or merge methods when imported
EXACT = ("exact", "learned")  # alignments by exact symmetries
FITTED_LAYERS = "fitted layers"  # a start of the training, by its name in records
LEARNING = tuple(field.name for field in fields(LearningOptions))  # options of training alone


def method_traits(name: str) -> MethodTraits:
    """Return what a merge method needs and takes; for auto and unknown names, nothing."""
    return MERGE_METHODS.get(name, MethodTraits())


def methods_with(trait: Literal["needs_base", "sparse", "summed"]) -> list[str]:
    """Return the names of the merge methods that have a trait."""
    return [name for name, traits in MERGE_METHODS.items() if getattr(traits, trait)]
