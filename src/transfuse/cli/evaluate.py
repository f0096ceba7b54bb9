"""`transfuse eval` and `transfuse path`: measure models, and the line between two models."""

import typer

from transfuse.base.progress import quiet_libraries
from transfuse.cli.context import MEMORY, output_mode, passed_options
from transfuse.cli.flags import matching, places, running


def evaluate(
    context: typer.Context,
    models: places.Measured,
    data: places.Labelled,
    limit: running.Limit = None,
    batch_size: running.BatchSize = None,
    seed: running.Seed = None,
    device: running.Device = None,
    classes: running.Classes = False,
    max_memory: running.Bound = None,
    max_device_memory: running.MaxDeviceMemory = None,
    allow_pickle: running.Pickle = None,
    spec: places.Spec = None,
    as_json: running.Json = False,
    quiet: running.Quiet = False,
) -> None:
    """Measure accuracy, loss and calibration, and compare models."""
    from transfuse.cli.validation import limits, options
    from transfuse.report.tables import evaluation_tables

    chosen = options(passed_options(context, "models", "data", "limit", "classes", *MEMORY))
    room = limits(max_memory, max_device_memory)
    mode = output_mode(context)
    with quiet_libraries():
        from transfuse.base.budget import memory_limit
        from transfuse.cli.jobs.evaluate import eval_job

        with memory_limit(*room):
            measured = eval_job(models, data, limit, chosen, mode.progress)
    mode.show(measured.as_dict(), lambda: evaluation_tables(measured, classes))


def path(
    context: typer.Context,
    anchor: places.Anchor,
    other: places.Other,
    data: places.Both,
    plot: places.Plot = None,
    align: matching.Align = None,
    evidence: matching.Evidence = None,
    plan: matching.Plan = None,
    regularization: matching.Regularization = None,
    support: matching.Support = None,
    cost: matching.Cost = None,
    scale: matching.Scale = None,
    transform: matching.Transform = None,
    policy: matching.Policy = None,
    queries: matching.Queries = None,
    values: matching.Values = None,
    heads: matching.Heads = None,
    tokens: matching.Tokens = None,
    max_loss: matching.MaxLoss = None,
    keep: matching.Keep = None,
    rules: matching.Rules = None,
    groups: matching.Groups = None,
    trust: matching.Trust = None,
    objective: matching.Objective = None,
    steps: matching.Steps = None,
    learning_rate: matching.MapRate = None,
    augment: matching.Varied = None,
    points: running.Points = 11,
    limit: running.Limit = None,
    samples: running.Samples = None,
    batch_size: running.BatchSize = None,
    seed: running.Seed = None,
    device: running.Device = None,
    max_memory: running.Bound = None,
    max_device_memory: running.MaxDeviceMemory = None,
    allow_pickle: running.Pickle = None,
    spec: places.Spec = None,
    as_json: running.Json = False,
    quiet: running.Quiet = False,
) -> None:
    """Measure the line between two aligned models."""
    from transfuse.cli.validation import check_plot, limits, options
    from transfuse.report.tables import path_table

    aside = "anchor", "other", "data", "plot", "points", "limit"
    chosen = options({"merge": "mean"} | passed_options(context, *aside, *MEMORY))
    room = limits(max_memory, max_device_memory)
    if plot:
        check_plot(plot)
    with quiet_libraries():
        from transfuse.base.budget import memory_limit
        from transfuse.cli.jobs.evaluate import path_job, save_plot

        with memory_limit(*room):
            line = path_job(anchor, other, data, limit, points, chosen, output_mode(context).progress)
        if plot:
            save_plot({chosen.align: line}, plot)
    output_mode(context).show(line.as_dict(), lambda: path_table(line))
