"""What a report reads again, which must not have changed: the record of a fusion, its models and its samples."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transfuse.base.batch import Batch, batch_size
from transfuse.base.counted import counted
from transfuse.base.hashing import samples_digest
from transfuse.base.unique_json import read_json
from transfuse.checkpoint.reading.companions import RECORD
from transfuse.checkpoint.reading.files import file_hashes
from transfuse.checkpoint.reading.load import local_directory
from transfuse.checkpoint.record.memory_inputs import has_samples_in_memory, matched_on_samples
from transfuse.checkpoint.record.origin import resolved
from transfuse.errors import CheckpointError, ConfigError, DataError


def read_record(output: Path) -> dict[str, Any]:
    """Return the record of a fusion.

    Raises:
        CheckpointError: `transfuse.json` is missing, cannot be read, or does not have the fields of a fusion.
        ConfigError: the model was fine-tuned, not fused.
    """
    folder = local_directory(output)
    try:
        record = read_json(folder / RECORD)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{output}: has no {RECORD}, so it is not a fusion; give an output of transfuse fuse"
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{output / RECORD}: cannot be read ({error}); fuse again") from error
    if isinstance(record, dict) and "finetuned" in record:
        raise ConfigError(f"{output}: was fine-tuned, not fused; measure it with transfuse eval")
    if isinstance(record, dict) and "shrunk" in record:
        raise ConfigError(
            f"{output}: was made smaller, not fused; transfuse eval measures it, and transfuse shrink --report"
            " writes its report"
        )
    if isinstance(record, dict) and "carried" in record:
        raise ConfigError(f"{output}: was carried, not fused; transfuse carry --report writes its report")
    fields = {"models": list, "options": dict, "versions": dict, "alignments": list}
    if not isinstance(record, dict) or not all(isinstance(record.get(name), kind) for name, kind in fields.items()):
        raise CheckpointError(f"{output / RECORD}: is not what fuse writes; fuse again")
    defaults = {"data": None, "calibration_samples": 0, "match_on": "weights", "merge": "mean", "directory": "."}
    return defaults | record


def samples_of(record: Mapping[str, Any], output: Path) -> str | None:
    """Return the path of the samples of a fusion; None if it had none, or the matching can be repeated without them.

    Raises:
        ConfigError: the models were matched on samples in memory.
    """
    if record["data"] is None:
        return None
    if not has_samples_in_memory(record):
        return resolved(record["data"], record["directory"])
    if matched_on_samples(record):
        raise ConfigError(
            f"{output}: its models were matched on samples in memory, which cannot be read again; measure it with"
            " transfuse eval, or fuse with samples in a file"
        )
    return None


def unchanged_path(model: Mapping[str, Any], directory: str) -> str:
    """Return the path of an input of the fusion. Raise `ConfigError` if it has changed or was in memory."""
    path = model.get("path")
    if not isinstance(path, str):
        raise ConfigError("models: one was fused from memory and cannot be read again; save it and fuse its files")
    path = resolved(path, directory)
    if file_hashes(local_directory(path, "allow")) != model.get("sha256"):
        raise ConfigError(f"{path}: has changed since the fusion; fuse again")
    return path


def check_same_samples(record: Mapping[str, Any], batches: Sequence[Batch]) -> None:
    """Raise `DataError` unless these are the samples that the models of a fusion were matched on.

    A record has no hash of them if the models were matched without samples, or by an older version.
    """
    expected = record.get("samples_sha256")
    if expected is None or samples_digest(batches) == expected:
        return
    count = sum(map(batch_size, batches))
    raise DataError(
        f"{record['data']}: its samples differ from those that the fusion was matched on"
        f" ({counted(record['calibration_samples'], 'sample', ',')} then, {count:,} now); give the data and --device of"
        " the fusion, or measure the model with transfuse eval"
    )
