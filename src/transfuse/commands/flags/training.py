"""Flags: how a model is trained."""

from typing import Annotated

from typer import Option

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
Trust = Annotated[
    str | None,
    Option(
        metavar="even|confidence|labels",
        help="Which of the teachers to believe about a sample. even (default): all. confidence: who is sure of it."
        " labels: who is right about it.",
    ),
]
Precision = Annotated[
    str | None, Option(metavar="float32|bfloat16|float16", help="Of the computation (mixed). Default: float32.")
]
Lesson = Annotated[int | None, Option("--samples", metavar="COUNT", help="Train on so many samples only.")]
Processors = Annotated[
    str | None, Option("--device", metavar="auto|cpu", help="auto (default): every GPU there is, else the CPU.")
]
