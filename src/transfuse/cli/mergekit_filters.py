"""Select tensors as the filters in a file of mergekit do: by their names in the files of the first model."""

from collections.abc import Callable, Mapping
from typing import Any

from transfuse.base.libraries import quiet_libraries
from transfuse.config.job import Job
from transfuse.config.labels import Labels, label, refused
from transfuse.errors import ConfigError


def with_filters(job: Job, labels: Labels, warn: Callable[[str], None]) -> Job:
    """Return a job whose weights and densities select tensors as mergekit's filters do: by their names in files."""
    given = {"weights": job.weights or (), "density": job.density or ()}
    if not any(isinstance(value, Mapping) for values in given.values() for value in values):
        return job
    from transfuse.checkpoint.reading.load import load_empty
    from transfuse.merging.file_filters import names_in_files, with_file_filters
    from transfuse.network.families.undeclared import take_undeclared
    from transfuse.network.registry import load_families

    load_families(job.spec)
    with quiet_libraries():
        model = load_empty(job.models[0], job.pickle_policy())
        take_undeclared(type(model).__name__, job.needs_no_declaration(job.base is not None))
        names = names_in_files(model)
    changed: dict[str, Any] = {}
    for name, values in given.items():
        try:
            found = [with_file_filters(value, names) for value in values]
        except ConfigError as error:
            raise refused(labels, name, str(error)) from error
        for part in dict.fromkeys(part for _, idle in found for part in idle):
            warn(f"{label(labels, name)}: filter {part} has no effect; no tensor in the files has it in its name")
        changed |= {name: tuple(value for value, _ in found)} if values else {}
    return job.model_copy(update=changed)
