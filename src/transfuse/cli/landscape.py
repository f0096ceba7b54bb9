"""`transfuse landscape`: the plane through three models."""

import typer

from transfuse.base.progress import quiet_libraries
from transfuse.cli.context import output_mode, passed_options
from transfuse.cli.flags import matching, places, running


def landscape(
    context: typer.Context,
    first: places.First,
    second: places.Second,
    third: places.Third,
    data: places.Labelled,
    plot: places.Plot = None,
    metric: running.Metric = "loss",
    align: matching.InBasis = "exact",
    evidence: matching.Shown = "weights",
    points: running.Side = 13,
    margin: running.Margin = 0.3,
    limit: running.Limit = None,
    samples: running.Samples = None,
    batch_size: running.BatchSize = None,
    seed: running.Seed = None,
    device: running.Device = None,
    allow_pickle: running.Pickle = None,
    spec: places.Spec = None,
    as_json: running.Json = False,
    quiet: running.Quiet = False,
) -> None:
    """Measure loss or accuracy on the plane through three models."""
    from transfuse.cli.validation import check_plot, landscape_options
    from transfuse.report.plane import landscape_table

    aside = "first", "second", "third", "data", "plot", "metric", "points", "margin", "limit"
    chosen = landscape_options(passed_options(context, *aside), metric)
    if plot:
        check_plot(plot)
    with quiet_libraries():
        from transfuse.cli.jobs.landscape import landscape_job, save_landscape

        models = (first, second, third)
        found = landscape_job(models, data, limit, points, margin, chosen, output_mode(context).progress)
        if plot:
            save_landscape(found, metric, plot)
    output_mode(context).show(found.as_dict(), lambda: landscape_table(found))
