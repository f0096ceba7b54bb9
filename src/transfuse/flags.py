"""What the options of the command line are called, take and mean. None: not given, so a configuration file decides."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

Models = Annotated[
    list[str] | None,
    Argument(
        metavar="ANCHOR OTHER",
        show_default=False,
        help="Checkpoint folders or hub names. The result has the first one's basis, shape and processor.",
    ),
]
Planned = Annotated[list[str], Argument(metavar="ANCHOR OTHER", help="Checkpoint folders or hub names.")]
Measured = Annotated[list[str], Argument(metavar="MODEL", help="Checkpoint folders or hub names.")]
Anchor = Annotated[str, Argument(metavar="ANCHOR", help="The model at 0, whose basis is kept.")]
Other = Annotated[str, Argument(metavar="OTHER", help="The model at 1, aligned to it.")]

Output = Annotated[str | None, Option("--output", "-o", metavar="OUT", help="Folder to write.")]
Folder = Annotated[Path, Option("--output", "-o", metavar="OUT", help="Folder for parents, models and report.")]
Plot = Annotated[Path | None, Option(metavar="FILE", help="A .png or .svg picture to write.")]
Config = Annotated[
    Path | None, Option(metavar="FILE", help="YAML with the same names, and models and output; flags win.")
]
Overwrite = Annotated[bool | None, Option("--overwrite", help="Replace OUT if it holds a model.")]

Data = Annotated[
    str | None,
    Option(
        metavar="DATA",
        help="Samples, unlabelled: a folder of images, a text, parquet, CSV or JSON-lines file, a saved dataset, or a"
        " name on the hub. Default: none, align by weights.",
    ),
]
Labelled = Annotated[
    str,
    Option(
        metavar="DATA",
        help="Labelled samples (texts, for a masked-language model); the test split where there are several.",
    ),
]
Both = Annotated[
    str,
    Option(
        metavar="DATA",
        help="Labelled samples: measured on the test split, aligned by the training split, where there are both.",
    ),
]
Samples = Annotated[
    int | None,
    Option(
        metavar="COUNT", help="Samples to align and fit by. Default: 200 for flow, 2000 for exact and least-squares."
    ),
]
Limit = Annotated[int | None, Option(min=1, metavar="COUNT", help="Measure on so many samples only, drawn by --seed.")]
Seed = Annotated[int | None, Option(metavar="NUMBER", help="Which samples are drawn. Default: 0.")]
BatchSize = Annotated[int | None, Option(metavar="COUNT", help="Samples at a time. Default: 100.")]
Points = Annotated[int, Option(min=3, metavar="COUNT", help="Points of the path, both ends included.")]

Align = Annotated[
    str | None,
    Option(
        metavar="none|flow|exact|learned",
        help="exact (default): the best of the network's own symmetries. learned: these, moved by gradient descent."
        " flow: the paper's transport maps. none: plain average.",
    ),
]
Merge = Annotated[
    str | None,
    Option(
        metavar="auto|mean|least-squares",
        help="mean: the weighted mean of the aligned models. least-squares: then every linear layer is fitted to what"
        " the parents compute, on unlabelled --data. auto (default): least-squares for exact and learned with --data.",
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
Weights = Annotated[str | None, Option(metavar="W,W,...", help="One per model. Default: equal.")]

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
Objective = Annotated[
    str | None,
    Option(
        metavar="parents|labels",
        help="Learned only: what the merged model should say. parents (default): what they say on average, unlabelled.",
    ),
]
Steps = Annotated[int | None, Option(metavar="COUNT", help="Learned only: of Adam, at most. Default: 500.")]
MapRate = Annotated[
    float | None, Option("--learning-rate", metavar="NUMBER", help="Learned only: of Adam at first. Default: 0.01.")
]
Varied = Annotated[
    str | None, Option("--augment", metavar="none|flip|crop|crop-flip", help="Learned only: of the images.")
]

Learner = Annotated[str, Argument(metavar="MODEL", help="The model to train, fused or not.")]
Lessons = Annotated[
    str,
    Option("--data", metavar="DATA", help="Samples to train on, labelled unless --distill is 1; the training split."),
]
Teacher = Annotated[
    list[str] | None,
    Option("--teacher", metavar="MODEL", help="Learn from this model's outputs too; several are averaged."),
]
Epochs = Annotated[float | None, Option(metavar="NUMBER", help="Passes over the samples, parts too. Default: 1.")]
LearningRate = Annotated[float | None, Option(metavar="NUMBER", help="Highest learning rate. Default: 1e-4.")]
TrainingBatch = Annotated[
    int | None, Option("--batch-size", metavar="COUNT", help="Samples per step, on each GPU. Default: 64.")
]
Decay = Annotated[
    str | None, Option(metavar="cosine|linear|constant", help="Of the learning rate. Default: cosine, to zero.")
]
Warmup = Annotated[float | None, Option(metavar="PART", help="Part of the steps. Default: 0.05.")]
WeightDecay = Annotated[float | None, Option(metavar="NUMBER", help="Default: 0.05.")]
Smoothing = Annotated[float | None, Option("--label-smoothing", metavar="PART", help="Default: 0.")]
Augment = Annotated[
    str | None,
    Option(metavar="none|flip|crop|crop-flip", help="Images only. crop: shifted by up to an eighth of a side."),
]
Distill = Annotated[
    float | None, Option(metavar="PART", help="The teachers' part of the loss. Default: 0.5; 1: without labels.")
]
Temperature = Annotated[float | None, Option(metavar="NUMBER", help="Of distillation. Default: 1.")]
Precision = Annotated[
    str | None, Option(metavar="float32|bfloat16|float16", help="Of the computation (mixed). Default: float32.")
]
Lesson = Annotated[int | None, Option("--samples", metavar="COUNT", help="Train on so many samples only.")]
Resume = Annotated[bool, Option("--resume", help="Go on where a run into the same OUT was cut short.")]
Processors = Annotated[
    str | None, Option("--device", metavar="auto|cpu", help="auto (default): every GPU there is, else the CPU.")
]

Cache = Annotated[
    str | None,
    Option(
        metavar="DIR",
        help="Keep statistics, maps and fitted layers here, and take from here what was made of the same before.",
    ),
]
MaxMemory = Annotated[
    str | None,
    Option(
        metavar="SIZE",
        help="As 8GB: weights that do not fit are read and written tensor by tensor; what cannot be, is refused.",
    ),
]
Device = Annotated[
    str | None, Option(metavar="DEVICE", help="auto (default): cuda where there is one. Or cpu, cuda:1, mps.")
]
Dtype = Annotated[
    str | None,
    Option(
        metavar="auto|float64|float32|bfloat16|float16", help="Of the written weights. auto (default): the anchor's."
    ),
]
Spec = Annotated[
    str | None,
    Option(metavar="FILE", help="Python file that registers a family of your own (docs/adding-a-family.md)."),
]
Vocab = Annotated[
    str | None,
    Option(
        metavar="same|shared|anchor",
        help="same (default): tokenizers must agree. shared: rows of tokens that both know are fused by their string;"
        " anchor: all word rows stay the anchor's.",
    ),
]
Pickle = Annotated[bool | None, Option("--allow-pickle", help="Read pickled weights too; only tensors are unpickled.")]
Json = Annotated[bool, Option("--json", help="Print one JSON document on stdout.")]
Quiet = Annotated[bool, Option("--quiet", "-q", help="Print nothing but errors.")]
Version = Annotated[bool, Option("--version", help="Print the version and exit.")]
