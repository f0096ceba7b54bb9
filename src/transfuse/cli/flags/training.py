"""Flags: how a model is trained."""

from typing import Annotated

from typer import Option

Epochs = Annotated[
    float | None, Option(metavar="NUMBER", help="Passes over the samples; fractions are allowed. Default: 1.")
]
LearningRate = Annotated[float | None, Option(metavar="NUMBER", help="Highest learning rate. Default: 1e-4.")]
TrainingBatch = Annotated[
    int | None, Option("--batch-size", metavar="COUNT", help="Samples per step, on each GPU. Default: 64.")
]
Decay = Annotated[
    str | None, Option(metavar="cosine|linear|constant", help="Decay of the learning rate. Default: cosine, to zero.")
]
Warmup = Annotated[float | None, Option(metavar="PART", help="Fraction of the steps for warmup. Default: 0.05.")]
WeightDecay = Annotated[float | None, Option(metavar="NUMBER", help="Weight decay. Default: 0.05.")]
Smoothing = Annotated[float | None, Option("--label-smoothing", metavar="PART", help="Label smoothing. Default: 0.")]
Augment = Annotated[
    str | None,
    Option(metavar="none|flip|crop|crop-flip", help="Images only. crop: shifted by up to an eighth of a side."),
]
Distill = Annotated[
    float | None,
    Option(metavar="PART", help="Share of the teachers in the loss. Default: 0.5. With 1, labels are not used."),
]
Temperature = Annotated[float | None, Option(metavar="NUMBER", help="Temperature of distillation. Default: 1.")]
Trust = Annotated[
    str | None,
    Option(
        metavar="even|confidence|labels",
        help="Weight of each teacher per sample. even (default): the same. confidence: by its confidence."
        " labels: by its accuracy.",
    ),
]
Precision = Annotated[
    str | None,
    Option(metavar="float32|bfloat16|float16", help="Precision of the computation (mixed). Default: float32."),
]
Lesson = Annotated[int | None, Option("--samples", metavar="COUNT", help="Train on this many samples only.")]
Processors = Annotated[
    str | None, Option("--device", metavar="auto|cpu", help="auto (default): every GPU there is, else the CPU.")
]
