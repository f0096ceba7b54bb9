"""Flags: how models are matched and merged."""

from typing import Annotated

from typer import Option

Align = Annotated[
    str | None,
    Option(
        metavar="none|flow|exact|learned",
        help="exact (default): the symmetries of the architecture. learned: these, then moved by gradient descent."
        " flow: the transport maps of the paper. none: plain average.",
    ),
]
InBasis = Annotated[
    str,
    Option(
        "--align",
        metavar="exact|none",
        help="exact: carry B and C into A's basis first, unless they were fused into it. none: leave all as they are.",
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
        help="mean: the weighted mean of the aligned models. least-squares: then fit each layer to what the parents"
        " compute on unlabelled --data. learned: then train all weights to match the parents."
        " auto (default): least-squares for exact and learned with --data.",
    ),
]
Evidence = Annotated[
    str | None,
    Option(
        metavar="auto|activations|weights|both",
        help="Match units by this. auto (default): activations for flow with --data; both for exact with --data and"
        " --merge mean; else weights.",
    ),
]
Groups = Annotated[
    str | None,
    Option(
        metavar="all|permutations",
        help="Exact and learned only. all (default): every symmetry of the architecture. permutations: a control.",
    ),
]
Basis = Annotated[
    str | None,
    Option(
        metavar="auto|anchor|common",
        help="Exact and learned only: align to the anchor, or to each other (auto: with three or more models).",
    ),
]
Trust = Annotated[
    str | None,
    Option(
        metavar="even|confidence|labels",
        help="Weight of each parent per sample, for parents trained on different data. even (default): the same."
        " confidence: by its confidence. labels: by its accuracy.",
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
        metavar="auto|float64|float32|bfloat16|float16",
        help="Precision of the written weights. auto (default): the anchor's.",
    ),
]
Objective = Annotated[
    str | None,
    Option(
        metavar="parents|labels",
        help="Learned maps or weights: target of the training. parents (default): their mean prediction, without"
        " labels.",
    ),
]
Steps = Annotated[
    int | None, Option(metavar="COUNT", help="Learned maps or weights: training steps, at most. Default: 500.")
]
MapRate = Annotated[
    float | None,
    Option(
        "--learning-rate",
        metavar="NUMBER",
        help="Learned maps or weights: initial learning rate, relative to the size of the weights. Default: 0.01.",
    ),
]
Varied = Annotated[
    str | None,
    Option(
        "--augment", metavar="none|flip|crop|crop-flip", help="Learned maps or weights: augmentation of the images."
    ),
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
    Option(
        metavar="UNITS", help="Soft plans only: regularize until each unit is spread over this many units on average."
    ),
]
Cost = Annotated[str | None, Option(metavar="euclidean|squared|cosine", help="Flow only: cost between units.")]
Scale = Annotated[str | None, Option(metavar="max|mean|median|log|none", help="Flow only: divide costs by this.")]
Transform = Annotated[
    str | None,
    Option(metavar="standardise|centre|normalise|raw", help="Flow only: transform of each unit's activations."),
]
Policy = Annotated[
    str | None,
    Option(
        metavar="mean|scalar|matrix|skip|branch|identity",
        help="Flow only: map after a residual addition. scalar and matrix weight by activations.",
    ),
]
Queries = Annotated[str | None, Option(metavar="separate|shared|joint", help="Flow only: maps of queries and keys.")]
Values = Annotated[str | None, Option(metavar="values|context", help="Flow only: match values by this.")]
Heads = Annotated[str | None, Option(metavar="crossed|aware", help="Flow only: aware keeps attention heads apart.")]
Tokens = Annotated[str | None, Option(metavar="all|class|window-N", help="Flow only: which tokens are samples.")]
MaxLoss = Annotated[
    float | None,
    Option(metavar="NUMBER", help="Flow only: use labelled samples whose loss is at most this in every model."),
]
Keep = Annotated[
    str | None,
    Option(
        metavar="PART,...",
        help="Flow only: keep these parts of the anchor: embeddings, attention, norms, ffn, biases, head.",
    ),
]
Rules = Annotated[
    str | None,
    Option(metavar="corrected|released", help="Flow only. released: as in the authors' code, with its errors."),
]
