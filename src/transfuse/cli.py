"""The command line: parse, call, print. What is slow to import is imported once the options are known to be right."""

import os
import signal
import sys
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import typer

from transfuse import flags
from transfuse.errors import TransfuseError
from transfuse.progress import quiet_libraries
from transfuse.terminal import JSON, MUTE, TALKING, Voice, console, fail

app = typer.Typer(
    pretty_exceptions_enable=False, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]}
)
USAGE_ERROR: Any = typer.BadParameter.__base__
INTERRUPTED = 130


@app.callback(invoke_without_command=True)
def start(context: typer.Context, version: flags.Version = False) -> None:
    """Fuse independently trained Transformers into one, by optimal transport."""
    if version:
        from importlib.metadata import version as installed

        print(f"transfuse {installed('transfuse')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise typer.Exit(2)


@app.command()
def fuse(
    models: flags.Models = None, output: flags.Output = None, data: flags.Data = None, align: flags.Align = None,
    merge: flags.Merge = None, evidence: flags.Evidence = None, plan: flags.Plan = None,
    regularization: flags.Regularization = None, support: flags.Support = None, cost: flags.Cost = None,
    scale: flags.Scale = None, transform: flags.Transform = None, policy: flags.Policy = None,
    queries: flags.Queries = None, values: flags.Values = None, heads: flags.Heads = None, tokens: flags.Tokens = None,
    max_loss: flags.MaxLoss = None, keep: flags.Keep = None, rules: flags.Rules = None,
    groups: flags.Groups = None, basis: flags.Basis = None, trust: flags.Trust = None,
    objective: flags.Objective = None,
    steps: flags.Steps = None, learning_rate: flags.MapRate = None, augment: flags.Varied = None,
    weights: flags.Weights = None, samples: flags.Samples = None,
    batch_size: flags.BatchSize = None, seed: flags.Seed = None, device: flags.Device = None,
    dtype: flags.Dtype = None, vocab: flags.Vocab = None, config: flags.Config = None,
    overwrite: flags.Overwrite = None, resume: flags.Resume = False, cache: flags.Cache = None,
    max_memory: flags.MaxMemory = None,
    allow_pickle: flags.Pickle = None, spec: flags.Spec = None, as_json: flags.Json = False, quiet: flags.Quiet = False,
) -> None:  # fmt: skip
    """Fuse models into one checkpoint."""
    from transfuse.checks import fuse_request, workplace
    from transfuse.report.table import fusion_summary

    given = {
        "models": tuple(models or ()), "output": output, "data": data, "align": align, "merge": merge,
        "evidence": evidence, "plan": plan, "regularization": regularization, "support": support, "cost": cost,
        "scale": scale, "transform": transform, "policy": policy, "queries": queries, "values": values, "heads": heads,
        "tokens": tokens, "max_loss": max_loss, "keep": keep, "rules": rules, "weights": weights, "samples": samples,
        "groups": groups, "basis": basis, "trust": trust, "objective": objective, "steps": steps,
        "learning_rate": learning_rate, "augment": augment, "batch_size": batch_size, "seed": seed,
        "device": device, "dtype": dtype, "overwrite": overwrite,
        "vocab": vocab, "allow_pickle": allow_pickle, "spec": spec, "cache": cache, "max_memory": max_memory,
    }  # fmt: skip
    voice, job = _voice(as_json, quiet), fuse_request(given, config)
    place = workplace(job, resume)
    with quiet_libraries():
        from transfuse.jobs import fuse_job

        path, record = fuse_job(job, place, voice.progress)
    voice.show({"output": str(path)} | record, lambda: fusion_summary(path, record))


@app.command()
def plan(
    models: flags.Planned, align: flags.Align = None, plan: flags.Plan = None, groups: flags.Groups = None,
    dtype: flags.Dtype = None, max_memory: flags.MaxMemory = None, allow_pickle: flags.Pickle = None,
    spec: flags.Spec = None, as_json: flags.Json = False, quiet: flags.Quiet = False,
) -> None:  # fmt: skip
    """Tell what fusing by weights would match, and take."""
    from transfuse.checks import memory, options
    from transfuse.report.table import outlook_table

    given = {
        "align": align, "plan": plan, "groups": groups, "dtype": dtype, "allow_pickle": allow_pickle, "spec": spec,
    }  # fmt: skip
    voice, chosen, room = _voice(as_json, quiet), options(given), memory(max_memory)
    with quiet_libraries():
        from transfuse.jobs import plan_job

        found = plan_job(models, chosen, room)
    voice.show(asdict(found), lambda: outlook_table(found))


@app.command(name="eval")
def evaluate(
    models: flags.Measured, data: flags.Labelled, limit: flags.Limit = None, batch_size: flags.BatchSize = None,
    seed: flags.Seed = None, device: flags.Device = None, allow_pickle: flags.Pickle = None, spec: flags.Spec = None,
    as_json: flags.Json = False, quiet: flags.Quiet = False,
) -> None:  # fmt: skip
    """Measure accuracy and loss."""
    from transfuse.checks import options
    from transfuse.report.table import metrics_table

    given = {"batch_size": batch_size, "seed": seed, "device": device, "allow_pickle": allow_pickle, "spec": spec}
    voice, chosen = _voice(as_json, quiet), options(given)
    with quiet_libraries():
        from transfuse.jobs import eval_job

        found, measures = eval_job(models, data, limit, chosen, voice.progress)
    told = {
        name: asdict(metrics) | {measure: getattr(metrics, measure) for measure in measures}
        for name, metrics in found.items()
    }
    voice.show(told, lambda: metrics_table(found, measures))


@app.command()
def path(
    anchor: flags.Anchor, other: flags.Other, data: flags.Both, plot: flags.Plot = None, align: flags.Align = None,
    evidence: flags.Evidence = None, plan: flags.Plan = None, regularization: flags.Regularization = None,
    support: flags.Support = None, cost: flags.Cost = None, scale: flags.Scale = None,
    transform: flags.Transform = None, policy: flags.Policy = None, queries: flags.Queries = None,
    values: flags.Values = None, heads: flags.Heads = None, tokens: flags.Tokens = None, max_loss: flags.MaxLoss = None,
    keep: flags.Keep = None, rules: flags.Rules = None, groups: flags.Groups = None, trust: flags.Trust = None,
    objective: flags.Objective = None, steps: flags.Steps = None, learning_rate: flags.MapRate = None,
    augment: flags.Varied = None, points: flags.Points = 11, limit: flags.Limit = None, samples: flags.Samples = None,
    batch_size: flags.BatchSize = None, seed: flags.Seed = None, device: flags.Device = None,
    allow_pickle: flags.Pickle = None, spec: flags.Spec = None, as_json: flags.Json = False, quiet: flags.Quiet = False,
) -> None:  # fmt: skip
    """Walk between two aligned models: loss, accuracy, barrier."""
    from transfuse.checks import check_plot, options
    from transfuse.report.table import path_table

    given = {
        "align": align, "merge": "mean", "evidence": evidence, "plan": plan, "regularization": regularization,
        "support": support, "cost": cost, "scale": scale, "transform": transform, "policy": policy, "queries": queries,
        "values": values, "heads": heads, "tokens": tokens, "max_loss": max_loss, "keep": keep, "rules": rules,
        "groups": groups, "trust": trust, "objective": objective, "steps": steps, "learning_rate": learning_rate,
        "augment": augment, "samples": samples, "batch_size": batch_size, "seed": seed, "device": device,
        "allow_pickle": allow_pickle, "spec": spec,
    }  # fmt: skip
    voice, chosen = _voice(as_json, quiet), options(given)
    if plot:
        check_plot(plot)
    with quiet_libraries():
        from transfuse.jobs import path_job, save_plot

        line = path_job(anchor, other, data, limit, points, chosen, voice.progress)
        if plot:
            save_plot({chosen.align: line}, plot)
    voice.show(line.as_dict(), lambda: path_table(line))


@app.command()
def finetune(
    model: flags.Learner, data: flags.Lessons, output: flags.Output = None, teacher: flags.Teacher = None,
    epochs: flags.Epochs = None, learning_rate: flags.LearningRate = None, batch_size: flags.TrainingBatch = None,
    decay: flags.Decay = None, warmup: flags.Warmup = None, weight_decay: flags.WeightDecay = None,
    label_smoothing: flags.Smoothing = None, augment: flags.Augment = None, distill: flags.Distill = None,
    temperature: flags.Temperature = None, precision: flags.Precision = None, samples: flags.Lesson = None,
    seed: flags.Seed = None, device: flags.Processors = None, resume: flags.Resume = False,
    overwrite: flags.Overwrite = None, allow_pickle: flags.Pickle = None, spec: flags.Spec = None,
    as_json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> None:  # fmt: skip
    """Train a model a little longer, with teachers if wanted."""
    from transfuse.checks import schedule, training_target
    from transfuse.report.table import training_summary

    given = {
        "teachers": tuple(teacher or ()), "epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size,
        "decay": decay, "warmup": warmup, "weight_decay": weight_decay, "label_smoothing": label_smoothing,
        "augment": augment, "distill": distill, "temperature": temperature, "precision": precision,
        "samples": samples, "seed": seed, "device": device,
        "allow_pickle": allow_pickle, "spec": spec,
    }  # fmt: skip
    voice, chosen = _voice(as_json, quiet), schedule(given)
    models = (model, *(teacher or ()))
    target = training_target(models, output, resume, bool(overwrite))
    with quiet_libraries():
        from transfuse.jobs import finetune_job

        path, record = finetune_job(models, data, chosen, target, voice.progress)
    voice.show({"output": str(path)} | record, lambda: training_summary(path, record))


@app.command()
def demo(output: flags.Folder = Path("demo"), quiet: flags.Quiet = False) -> None:
    """Train two small ViTs on handwritten digits and fuse them."""
    from transfuse.checks import check_folder

    check_folder(output)
    screen = console()
    screen.quiet = quiet
    with quiet_libraries():
        from transfuse.demo.run import run

        run(output, _voice(False, quiet).progress, screen)


def _voice(as_json: bool, quiet: bool) -> Voice:
    first = os.environ.get("RANK", "0") == "0"  # of several processes, one per GPU
    return MUTE if quiet or not first else JSON if as_json else TALKING


def main() -> None:
    """Run; a mistake of the user's ends in one line on stderr and exit status 2."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what is half-written is taken away
    try:
        status = app(standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except USAGE_ERROR as error:
        fail(_usage(error))
    except TransfuseError as error:
        fail(str(error))
    except BrokenPipeError:  # whoever read the output has enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        fail(f"{error.filename or 'input or output'}: {error.strerror or error}")
    except (MemoryError, RuntimeError, ValueError) as error:
        reason = _limit(error)
        if reason is None:
            raise
        fail(reason)
    if status == INTERRUPTED:
        fail("interrupted", INTERRUPTED)
    sys.exit(status)


def _usage(error: Any) -> str:
    near = get_close_matches(getattr(error, "option_name", ""), getattr(error, "possibilities", None) or (), n=1)
    message = f"{error.message}; did you mean {near[0]}?" if near else error.format_message().rstrip(".")
    return f"{message} (see {error.ctx.command_path if error.ctx else 'transfuse'} --help)"


def _limit(error: Exception) -> str | None:
    """What to say of an error that is the machine's limit, of memory or of its numbers; None for a bug."""
    line = next(iter(str(error).splitlines()), "")
    if isinstance(error, MemoryError) or "out of memory" in line or "allocate memory" in line:
        return "out of memory; give a smaller --batch-size, or another --device"
    if type(error).__name__.endswith("LinAlgError"):
        return f"the alignment failed numerically ({line}); are weights or activations huge, or all the same?"
    return None
