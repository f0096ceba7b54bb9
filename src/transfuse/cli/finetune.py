"""`transfuse finetune`."""

import typer

from transfuse.base.progress import quiet_libraries
from transfuse.cli.context import MEMORY, output_mode, passed_options
from transfuse.cli.flags import places, running, training


def finetune(
    context: typer.Context,
    model: places.Learner,
    data: places.Lessons,
    output: places.Output = None,
    teachers: places.Teacher = None,
    epochs: training.Epochs = None,
    learning_rate: training.LearningRate = None,
    batch_size: training.TrainingBatch = None,
    decay: training.Decay = None,
    warmup: training.Warmup = None,
    weight_decay: training.WeightDecay = None,
    label_smoothing: training.Smoothing = None,
    augment: training.Augment = None,
    distill: training.Distill = None,
    temperature: training.Temperature = None,
    trust: training.Trust = None,
    precision: training.Precision = None,
    samples: training.Lesson = None,
    seed: running.Seed = None,
    device: training.Processors = None,
    resume: running.Resume = False,
    overwrite: places.Overwrite = None,
    max_memory: running.Bound = None,
    max_device_memory: running.MaxDeviceMemory = None,
    allow_pickle: running.Pickle = None,
    spec: places.Spec = None,
    as_json: running.Json = False,
    quiet: running.Quiet = False,
) -> None:
    """Train a model further, with labels, teachers, or both."""
    from transfuse.cli.validation import limits, schedule, training_target
    from transfuse.report.tables import training_summary

    chosen = schedule(passed_options(context, "model", "data", "output", "resume", "overwrite", *MEMORY))
    room = limits(max_memory, max_device_memory)
    models = (model, *(teachers or ()))
    target = training_target(models, output, resume, bool(overwrite))
    with quiet_libraries():
        from transfuse.base.budget import memory_limit
        from transfuse.cli.jobs.finetune import finetune_job

        with memory_limit(*room):
            path, record = finetune_job(models, data, chosen, target, output_mode(context).progress)
    output_mode(context).show({"output": str(path)} | record, lambda: training_summary(path, record))
