"""`transfuse eval` and `transfuse path`: how good models are, and the line between two."""

from dataclasses import asdict

import typer

from transfuse.commands.asked import given, voice
from transfuse.commands.flags import matching, places, running
from transfuse.progress import quiet_libraries


def evaluate(
    context: typer.Context,
    models: places.Measured, data: places.Labelled, limit: running.Limit = None, batch_size: running.BatchSize = None,
    seed: running.Seed = None, device: running.Device = None, allow_pickle: running.Pickle = None,
    spec: places.Spec = None, as_json: running.Json = False, quiet: running.Quiet = False,
) -> None:  # fmt: skip
    """Measure accuracy and loss."""
    from transfuse.checks import options
    from transfuse.report.table import metrics_table

    chosen = options(given(context, "models", "data", "limit"))
    with quiet_libraries():
        from transfuse.jobs import eval_job

        found, measures = eval_job(models, data, limit, chosen, voice(context).progress)
    told = {
        name: asdict(metrics) | {measure: getattr(metrics, measure) for measure in measures}
        for name, metrics in found.items()
    }
    voice(context).show(told, lambda: metrics_table(found, measures))


def path(
    context: typer.Context,
    anchor: places.Anchor, other: places.Other, data: places.Both, plot: places.Plot = None,
    align: matching.Align = None, evidence: matching.Evidence = None, plan: matching.Plan = None,
    regularization: matching.Regularization = None, support: matching.Support = None, cost: matching.Cost = None,
    scale: matching.Scale = None, transform: matching.Transform = None, policy: matching.Policy = None,
    queries: matching.Queries = None, values: matching.Values = None, heads: matching.Heads = None,
    tokens: matching.Tokens = None, max_loss: matching.MaxLoss = None, keep: matching.Keep = None,
    rules: matching.Rules = None, groups: matching.Groups = None, trust: matching.Trust = None,
    objective: matching.Objective = None, steps: matching.Steps = None, learning_rate: matching.MapRate = None,
    augment: matching.Varied = None, points: running.Points = 11, limit: running.Limit = None,
    samples: running.Samples = None, batch_size: running.BatchSize = None, seed: running.Seed = None,
    device: running.Device = None, allow_pickle: running.Pickle = None, spec: places.Spec = None,
    as_json: running.Json = False, quiet: running.Quiet = False,
) -> None:  # fmt: skip
    """Walk between two aligned models: loss, accuracy, barrier."""
    from transfuse.checks import check_plot, options
    from transfuse.report.table import path_table

    aside = "anchor", "other", "data", "plot", "points", "limit"
    chosen = options({"merge": "mean"} | given(context, *aside))
    if plot:
        check_plot(plot)
    with quiet_libraries():
        from transfuse.jobs import path_job, save_plot

        line = path_job(anchor, other, data, limit, points, chosen, voice(context).progress)
        if plot:
            save_plot({chosen.align: line}, plot)
    voice(context).show(line.as_dict(), lambda: path_table(line))
