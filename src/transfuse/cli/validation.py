"""Turn flags and configuration files into checked options, before a model or a slow library is loaded."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from transfuse.base.counted import counted
from transfuse.base.progress import silent
from transfuse.checkpoint.writing.output import check_outside, check_target
from transfuse.cli.flags import FlagValues, named_values
from transfuse.cli.mergekit_filters import with_filters
from transfuse.cli.targets import check_maps, check_name, check_paths, local_paths, required_output
from transfuse.config.finetune_options import FinetuneOptions, check_teacher_options
from transfuse.config.job import Job
from transfuse.config.labels import label, refused
from transfuse.config.literals import ALIGNMENTS, MERGE_METHODS
from transfuse.config.make import make
from transfuse.config.mergekit import Translation, is_mergekit, translate
from transfuse.config.options import Options
from transfuse.config.settings import MemoryLimits
from transfuse.config.validation import (
    ENOUGH_MODELS,
    carry_merging,
    check_carry,
    check_mapped,
    check_read,
    fewest_models,
)
from transfuse.config.yaml_file import read
from transfuse.errors import ConfigError

LANDSCAPE_METRICS = ("loss", "accuracy")


def fuse_request(flags: FlagValues, config: Path | None, warn: Callable[[str], None] = silent.warn) -> Job:
    """Return the job that flags and a configuration file describe. Flags override the file.

    Args:
        warn: is told about entries of a file that have no effect, or another one.

    Raises:
        ConfigError: an option, the number of models or a path is invalid.
        OutputError: the output cannot be written.
    """
    values, labels, translation = _given(flags, config)
    job = _job(values, labels)
    required_output(job.output)
    job.normalized_weights(len(job.models), labels)
    if job.maps is not None:
        check_mapped(job, len(job.models), labels)
    _check_places(job, config)
    if job.push_to_hub is not None:
        from transfuse.checkpoint.writing.push import check_push

        check_push(job.push_to_hub, job.all_models(), label=label(labels, "push_to_hub"))
    if translation is not None:
        _check_layers(job.models, translation.layers)
        if translation.base_tokenizer is not None:
            warn(f"{translation.base_tokenizer}: the tokenizer of the result is that of {job.models[0]}")
        job = with_filters(job, labels, warn)
    return job


def _given(flags: FlagValues, config: Path | None) -> tuple[dict[str, Any], dict[str, str], Translation | None]:
    """Return the values of flags and of a configuration file, how messages name each, and whether mergekit wrote it."""
    first = Path(next(iter(flags.get("models") or ()), ""))
    if first.suffix in (".yaml", ".yml") and not first.is_dir():
        raise ConfigError(f"{first}: is no model; if it is a configuration file, give it as --config {first}")
    file_values, file_labels = read(config) if config else ({}, {})
    translation = None
    if is_mergekit(file_values):
        translation = translate(file_values, file_labels)
        file_values, file_labels = translation.values, translation.labels
        flags = _with_output(flags)
    flag_values, flag_labels = named_values(flags)
    if isinstance(file_values.get("flow"), dict) and "flow" in flag_values:
        flag_values["flow"] = file_values["flow"] | flag_values["flow"]
    return file_values | flag_values, file_labels | flag_labels, translation


def carry_request(flags: FlagValues, keep: str | None, plans: bool = False) -> Job:
    """Return the job that the flags of `transfuse carry` describe. Its models are the new base, the base, the tuned.

    Args:
        plans: whether only a prediction is shown, so that no output is needed.

    Raises:
        ConfigError: an option or a path is invalid.
        OutputError: the output cannot be written.
    """
    values, labels = named_values(flags)
    has_data = "data" in values
    check_carry([*values, *(["keep"] if keep is not None else [])], has_data, labels)
    job = make(Job, {"merge": carry_merging(has_data)} | values, labels)
    check_read(values, job.data, keep, labels=labels)
    if plans:
        for name in (*job.models, job.data, keep):
            check_name(name or "")
        check_paths(job.models)
        return job
    required_output(job.output)
    check_name(keep or "")
    _check_places(job, keep)
    return job


def _check_places(job: Job, *others: str | Path | None) -> None:
    """Check the paths of a job: inputs, which may include others, must be there, and the output must be writable."""
    for name in (*job.all_models(), job.data, job.output, job.cache, job.maps):
        check_name(name or "")
    inputs = [*map(Path, job.all_models()), *local_paths(job.data, job.spec, *others)]
    check_target(Path(str(job.output)), job.overwrite, inputs)
    check_outside(Path(str(job.output)), job.data, *others)
    if job.maps is not None:
        check_maps(Path(job.maps), Path(str(job.output)))
    check_paths(job.all_models())


def _with_output(flags: FlagValues) -> FlagValues:
    """Return the flags with the only argument as the output, as `mergekit-yaml FILE OUT` takes it."""
    models = list(flags.get("models") or [])
    is_output = len(models) == 1 and not flags.get("output", True)
    return dict(flags) | {"models": None, "output": models[0]} if is_output else flags


def _check_layers(models: Sequence[str], layers: int | None) -> None:
    """Raise `ConfigError` unless a file's `layer_range`, if there is one, has all layers of every model."""
    if layers is None:
        return
    from transfuse.checkpoint.reading.config_file import read_config
    from transfuse.checkpoint.reading.load import local_directory

    for model in models:
        count = getattr(read_config(local_directory(model)), "num_hidden_layers", 0)
        if count != layers:
            raise ConfigError(
                f"slices: layer_range ends at {layers}, but {model} has {counted(count, 'layer')}, and all are merged;"
                " write models instead of slices"
            )


def plan_request(flags: FlagValues, config: Path | None = None, warn: Callable[[str], None] = silent.warn) -> Job:
    """Return the job that the flags of `transfuse plan` and a configuration file describe. Flags override the file.

    Args:
        warn: is told about entries of a file that have no effect.

    Raises:
        ConfigError: an option or the number of models is invalid, or a model is missing.
    """
    values, labels, translation = _given(flags, config)
    if values.get("align") == "learned":
        raise refused(labels, "align", "the memory of learned maps is not predicted; choose none, flow or exact")
    job = _job(values, labels)
    for name in (*job.all_models(), job.data):
        check_name(name or "")
    check_paths(job.all_models())
    if translation is not None:
        _check_layers(job.models, translation.layers)
        job = with_filters(job, labels, warn)
    return job


def _job(values: dict[str, Any], labels: dict[str, str]) -> Job:
    """Return the job of some values. Raises `ConfigError` on an invalid value or too few models."""
    _import_methods(values)
    job = make(Job, values, labels)
    check_read(values, job.data, labels=labels)
    if len(job.models) < fewest_models(job.merge, job.base is not None):
        raise ConfigError(f"MODELS: {len(job.models)} given; {ENOUGH_MODELS}")
    return job


def options(flags: FlagValues) -> Options:
    """Return the options that flags set. Raise `ConfigError` if one is invalid."""
    values, labels = named_values(flags)
    _import_methods(values)
    return make(Options, values, labels)


def _import_methods(values: Mapping[str, Any]) -> None:
    """Import the modules that register methods if a name is unknown, since they are slow to import."""
    known = (None, "auto", *ALIGNMENTS, *MERGE_METHODS)
    if values.get("align") not in known or values.get("merge") not in known:
        import_module("transfuse.alignment.methods")
        import_module("transfuse.merging.methods")


def limits(flags: FlagValues) -> MemoryLimits:
    """Return the memory limits among the flags. Raise `ConfigError` if one is invalid."""
    limit_flags = {name: value for name, value in flags.items() if name in MemoryLimits.model_fields}
    return make(MemoryLimits, *named_values(limit_flags))


def split_limits(flags: FlagValues) -> tuple[Options, MemoryLimits]:
    """Return the options and the memory limits that flags set. Raise `ConfigError` if one is invalid."""
    other_flags = {name: value for name, value in flags.items() if name not in MemoryLimits.model_fields}
    return options(other_flags), limits(flags)


def required_data(data: str | None) -> str:
    """Return the samples to measure on. Raise `ConfigError` if there are none."""
    if data is None:
        raise ConfigError("--data: missing; give samples to measure on")
    return data


def landscape_options(flags: FlagValues, metric: str) -> Options:
    """Return the options of `transfuse landscape`. Raise `ConfigError` if one is invalid."""
    if metric not in LANDSCAPE_METRICS:
        raise ConfigError(f"--metric: {metric!r} is not one of {', '.join(LANDSCAPE_METRICS)}")
    align = flags.get("align") or "exact"
    if align not in ("exact", "none"):
        raise ConfigError(f"--align: {align!r} is not one of exact, none, which preserve the function of a model")
    match_on = (flags.get("match_on") or "weights") if align == "exact" else None
    return options({"merge": "mean"} | dict(flags) | {"align": align, "match_on": match_on})


def finetune_options(flags: FlagValues) -> FinetuneOptions:
    """Return the options of fine-tuning that flags set. Raise `ConfigError` if an option is invalid."""
    values, labels = named_values(flags)
    teachers = values.pop("teachers", ())
    chosen = make(FinetuneOptions, values, labels)
    check_teacher_options(values, teachers, labels)
    return chosen
