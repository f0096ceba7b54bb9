"""The names that options may have, said once; what each means stands where it is implemented. No heavy imports."""

from dataclasses import dataclass, fields
from typing import Literal

Align = Literal["none", "flow", "exact", "learned"]
Merge = Literal["mean", "least-squares", "learned"]
Merging = Literal["auto", Merge]
Evidence = Literal["activations", "weights", "both"]
Plan = Literal["soft", "hard", "widening", "uniform"]
Cost = Literal["euclidean", "squared", "cosine"]
Scale = Literal["max", "mean", "median", "log", "none"]
Transform = Literal["standardise", "centre", "normalise", "raw"]
Policy = Literal["mean", "scalar", "matrix", "skip", "branch", "identity"]
Queries = Literal["separate", "shared", "joint"]
Values = Literal["values", "context"]
Heads = Literal["crossed", "aware"]
Part = Literal["embeddings", "attention", "norms", "ffn", "biases", "head"]
Rules = Literal["corrected", "released"]
Vocabulary = Literal["same", "shared", "anchor"]
Groups = Literal["all", "permutations"]
Basis = Literal["auto", "anchor", "common"]
TeacherWeighting = Literal["even", "confidence", "labels"]
Objective = Literal["parents", "labels"]
Augment = Literal["none", "flip", "crop", "crop-flip"]
Dtype = Literal["auto", "float64", "float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class FlowOptions:
    """The paper's options; the defaults are its ViT setting.

    Attributes:
        plan: soft (Sinkhorn), hard (exact), widening (soft only where the layer widens), or the uniform control.
        regularization: of soft plans, in units of the scaled cost; None: the authors'.
        support: how many units a soft plan is to spread each over on average, which sets the regularization.
        transform: what is done to each unit's samples of activations; weights are always normalised.
        queries: separate maps for Q and K, one from the evidence of both (shared), or one of twice the size (joint).
        values: whether V's map, which enters W_O, comes from the values or from the attention's context.
        heads: crossed, one plan over the concatenated heads, or aware, heads to heads and channels inside each pair.
        tokens: all, class, or window-N, the central N x N patches with the class token.
        max_loss: only samples on which no model's cross-entropy is higher; they need labels.
        keep: parts left as the anchor has them: embeddings, attention, norms, ffn, biases, head.
    """

    plan: Plan = "soft"
    regularization: float | None = None
    support: float | None = None
    cost: Cost = "euclidean"
    scale: Scale = "max"
    transform: Transform = "standardise"
    policy: Policy = "mean"
    queries: Queries = "separate"
    values: Values = "values"
    heads: Heads = "crossed"
    tokens: str = "all"
    max_loss: float | None = None
    keep: tuple[Part, ...] = ()
    rules: Rules = "corrected"


@dataclass(frozen=True)
class LearningOptions:
    """How maps, or the merged weights, are learned.

    Attributes:
        objective: what the merged model should say: what its parents say on average, or the labels.
        steps: of descent, at most; maps end early where held-out samples no longer gain.
        learning_rate: at first; of weights, relative to the size of each tensor.
        augment: random changes of the images.
    """

    objective: Objective = "parents"
    steps: int = 500
    learning_rate: float = 0.01
    augment: Augment = "none"


EXACT: tuple[Align, ...] = ("exact", "learned")  # alignments over exact symmetries
FAITHFUL: tuple[Align, ...] = ("none", *EXACT)  # those that keep every model's function
FLOW = tuple(each.name for each in fields(FlowOptions))  # the options that only the flow takes
LEARNING = tuple(each.name for each in fields(LearningOptions))  # those that only learned maps and weights take
