"""Define `transfuse finetune`."""

from typing import Annotated

from typer import Argument, Option

from transfuse.base.libraries import quiet_libraries
from transfuse.cli.flags import READING, FlagValues, Resume, takes_options
from transfuse.cli.output import OutputMode
from transfuse.config.finetune_options import FinetuneOptions
from transfuse.config.job import Job

EVERYDAY = ("epochs", "learning_rate", "batch_size", "distill", "teacher_weighting", "samples", "precision", "device")
OTHERS = (
    "decay",
    "warmup",
    "weight_decay",
    "label_smoothing",
    "augment",
    "temperature",
    *READING,
    "seed",
    "allow_pickle",
    "spec",
)
EXAMPLES = """
transfuse finetune OUT --data D -o TUNED                                      # on labels
transfuse finetune OUT --data D --teacher A --teacher B --distill 1 -o TUNED  # on teachers, without labels
"""


@takes_options(
    (Job, ["output"]),
    (FinetuneOptions, [*EVERYDAY, *OTHERS]),
    (Job, ["max_memory", "max_device_memory", "overwrite"]),
    everyday=["output", *EVERYDAY, "max_memory", "overwrite"],
)
def finetune(
    mode: OutputMode,
    flags: FlagValues,
    model: Annotated[str, Argument(metavar="MODEL", help="The model to train, fused or not.")],
    data: Annotated[
        str,
        Option(
            "--data", metavar="DATA", help="Samples to train on, labeled unless --distill is 1; the training split."
        ),
    ],
    teachers: Annotated[
        list[str] | None,
        Option(
            "--teacher",
            metavar="MODEL",
            help="Learn from this model's outputs too; those of several are averaged.",
        ),
    ] = None,
    resume: Resume = False,
) -> None:
    """Train a model further, with labels, teachers, or both."""
    from transfuse.cli.targets import said_how_to_continue, training_target
    from transfuse.cli.validation import finetune_options, limits
    from transfuse.finetuning.saved_state import STATE_FILE
    from transfuse.report.tables import training_summary

    other = ("output", "overwrite", "max_memory", "max_device_memory")
    chosen = {name: value for name, value in flags.items() if name not in other}
    options = finetune_options(chosen | {"teachers": teachers})
    memory_limits = limits(flags)
    models = (model, *(teachers or ()))
    target = training_target(models, flags["output"], resume, bool(flags["overwrite"]))
    with quiet_libraries():
        from transfuse.cli.jobs.finetune import finetune_job

        limit = memory_limits.memory_limit(options)
        with said_how_to_continue(target.checkpoints, pattern=f"checkpoint-*/{STATE_FILE}"), limit:
            done = finetune_job(models, data, options, target, mode.progress)
    mode.show(done.as_dict(), lambda: training_summary(done.output, done.record))
