"""Flags: how models are matched and merged."""

from typing import Annotated

from typer import Option

Align = Annotated[
    str | None,
    Option(
        metavar="none|flow|exact|learned",
        help="exact (default): the best of the network's own symmetries. learned: these, moved by gradient descent."
        " flow: the paper's transport maps. none: plain average.",
    ),
]
InBasis = Annotated[
    str,
    Option(
        "--align",
        metavar="exact|none",
        help="exact: B and C are carried into A's basis first, unless they were fused into it. none: all as they are.",
    ),
]
Shown = Annotated[
    str,
    Option(
        "--evidence", metavar="weights|activations|both", help="What units are matched by; --data's training split."
    ),
]
Merge = Annotated[
    str | None,
    Option(
        metavar="auto|mean|least-squares|learned",
        help="mean: the weighted mean of the aligned models. least-squares: then every linear layer is fitted to what"
        " the parents compute, on unlabelled --data. learned: then all weights descend towards that, too."
        " auto (default): least-squares for exact and learned with --data.",
    ),
]
Evidence = Annotated[
    str | None,
    Option(
        metavar="auto|activations|weights|both",
        help="What units are matched by. auto (default): activations for flow with --data; both for exact with --data"
        " and --merge mean; else weights.",
    ),
]
Groups = Annotated[
    str | None,
    Option(
        metavar="all|permutations",
        help="Exact and learned only. all (default): every symmetry of the architecture. permutations: the control.",
    ),
]
Basis = Annotated[
    str | None,
    Option(
        metavar="auto|anchor|common",
        help="Exact and learned only: aligned to the anchor, or, of three models and more (auto), all to each other.",
    ),
]
Trust = Annotated[
    str | None,
    Option(
        metavar="even|confidence|labels",
        help="Whom of the parents to believe about a sample, where they know different data. even (default): all."
        " confidence: who is sure of it. labels: who is right about it.",
    ),
]
Weights = Annotated[str | None, Option(metavar="W,W,...", help="One per model. Default: equal.")]
Vocab = Annotated[
    str | None,
    Option(
        metavar="same|shared|anchor",
        help="same (default): tokenizers must agree. shared: rows of tokens that both know are fused by their string;"
        " anchor: all word rows stay the anchor's.",
    ),
]
Dtype = Annotated[
    str | None,
    Option(
        metavar="auto|float64|float32|bfloat16|float16", help="Of the written weights. auto (default): the anchor's."
    ),
]
Objective = Annotated[
    str | None,
    Option(
        metavar="parents|labels",
        help="Learned maps or weights: what the merged model should say. parents (default): what they say on average,"
        " unlabelled.",
    ),
]
Steps = Annotated[int | None, Option(metavar="COUNT", help="Learned maps or weights: how many at most. Default: 500.")]
MapRate = Annotated[
    float | None,
    Option(
        "--learning-rate",
        metavar="NUMBER",
        help="Learned maps or weights: at first; of weights, relative to their size. Default: 0.01.",
    ),
]
Varied = Annotated[
    str | None, Option("--augment", metavar="none|flip|crop|crop-flip", help="Learned maps or weights: of the images.")
]
Plan = Annotated[
    str | None,
    Option(
        metavar="soft|hard|widening|uniform",
        help="Flow only. soft (default): Sinkhorn. hard: an exact matching. widening: soft only where the anchor is"
        " wider. uniform: the control.",
    ),
]
Regularization = Annotated[
    float | None,
    Option(
        metavar="NUMBER",
        help="Soft plans only: entropy relative to the largest cost. Default: 0.08 for activations, 0.06 for weights.",
    ),
]
Support = Annotated[
    float | None,
    Option(metavar="UNITS", help="Soft plans only: regularized until each unit is spread over so many on average."),
]
Cost = Annotated[str | None, Option(metavar="euclidean|squared|cosine", help="Flow only: between units.")]
Scale = Annotated[str | None, Option(metavar="max|mean|median|log|none", help="Flow only: what costs are divided by.")]
Transform = Annotated[
    str | None,
    Option(metavar="standardise|centre|normalise|raw", help="Flow only: what is done to each unit's activations."),
]
Policy = Annotated[
    str | None,
    Option(
        metavar="mean|scalar|matrix|skip|branch|identity",
        help="Flow only: the map behind a residual addition. scalar and matrix weigh by activations.",
    ),
]
Queries = Annotated[str | None, Option(metavar="separate|shared|joint", help="Flow only: maps of queries and keys.")]
Values = Annotated[str | None, Option(metavar="values|context", help="Flow only: what values are matched by.")]
Heads = Annotated[str | None, Option(metavar="crossed|aware", help="Flow only: aware keeps attention heads apart.")]
Tokens = Annotated[str | None, Option(metavar="all|class|window-N", help="Flow only: which tokens are samples.")]
MaxLoss = Annotated[
    float | None,
    Option(metavar="NUMBER", help="Flow only: labelled samples alone on which no model's loss is higher."),
]
Keep = Annotated[
    str | None,
    Option(
        metavar="PART,...",
        help="Flow only: parts left as the anchor has them, of embeddings, attention, norms, ffn, biases, head.",
    ),
]
Rules = Annotated[
    str | None,
    Option(metavar="corrected|released", help="Flow only. released: as the paper's code, its slips included."),
]
