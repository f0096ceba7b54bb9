"""`transfuse fuse`, and `transfuse plan`, which foretells it."""

from dataclasses import asdict

import typer

from transfuse.base.progress import quiet_libraries
from transfuse.cli.context import output_mode, passed_options
from transfuse.cli.flags import matching, places, running


def fuse(
    context: typer.Context,
    models: places.Models = None,
    output: places.Output = None,
    data: places.Data = None,
    align: matching.Align = None,
    merge: matching.Merge = None,
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
    basis: matching.Basis = None,
    trust: matching.Trust = None,
    objective: matching.Objective = None,
    steps: matching.Steps = None,
    learning_rate: matching.MapRate = None,
    augment: matching.Varied = None,
    weights: matching.Weights = None,
    samples: running.Samples = None,
    batch_size: running.BatchSize = None,
    seed: running.Seed = None,
    device: running.Device = None,
    dtype: matching.Dtype = None,
    vocab: matching.Vocab = None,
    config: places.Config = None,
    overwrite: places.Overwrite = None,
    report: running.Report = None,
    resume: running.Resume = False,
    cache: places.Cache = None,
    max_memory: running.MaxMemory = None,
    max_device_memory: running.MaxDeviceMemory = None,
    allow_pickle: running.Pickle = None,
    spec: places.Spec = None,
    as_json: running.Json = False,
    quiet: running.Quiet = False,
) -> None:
    """Fuse models into one checkpoint."""
    from transfuse.cli.validation import fuse_request, work_dir
    from transfuse.report.tables import fusion_summary

    job = fuse_request(passed_options(context, "config", "resume"), config)
    place = work_dir(job, resume)
    with quiet_libraries():
        from transfuse.base.budget import memory_limit
        from transfuse.cli.jobs.fuse import fuse_job

        with memory_limit(job.max_memory, job.max_device_memory):
            path, record = fuse_job(job, place, output_mode(context).progress)
    output_mode(context).show({"output": str(path)} | record, lambda: fusion_summary(path, record))


def plan(
    context: typer.Context,
    models: places.Planned,
    align: matching.Align = None,
    plan: matching.Plan = None,
    groups: matching.Groups = None,
    dtype: matching.Dtype = None,
    max_memory: running.MaxMemory = None,
    allow_pickle: running.Pickle = None,
    spec: places.Spec = None,
    as_json: running.Json = False,
    quiet: running.Quiet = False,
) -> None:
    """Show what fusing would match, and what it requires."""
    from transfuse.cli.validation import memory, options
    from transfuse.report.tables import outlook_table

    chosen, room = options(passed_options(context, "models", "max_memory")), memory(max_memory)
    with quiet_libraries():
        from transfuse.cli.jobs.fuse import plan_job

        found = plan_job(models, chosen, room)
    output_mode(context).show(asdict(found), lambda: outlook_table(found))
