"""The work of `transfuse report` and of `transfuse fuse --report`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from transfuse.alignment.interface import Alignment
from transfuse.alignment.spec_for import alignment_spec
from transfuse.base.folders import make_folder
from transfuse.base.progress import Progress
from transfuse.checkpoint.card import non_default_options, reproducing_call
from transfuse.checkpoint.companions import RECORD
from transfuse.checkpoint.config_file import read_config
from transfuse.checkpoint.files import file_hashes
from transfuse.checkpoint.load import load_model, local_directory
from transfuse.checkpoint.output import atomic_file
from transfuse.cli.jobs.inspection import check_checkpoints, check_fusible
from transfuse.cli.output import json_values
from transfuse.cli.validation import check_report
from transfuse.config.make import make
from transfuse.config.options import Options
from transfuse.data.samples import Samples, load_samples
from transfuse.data.splits import CALIBRATION
from transfuse.data.tasks import check_measurable, task, with_model_ids
from transfuse.errors import CheckpointError, ConfigError, DataError, SpecError
from transfuse.evaluation.models import labeled_batches
from transfuse.fusion.compare import Row
from transfuse.fusion.match import Matched, match
from transfuse.network.spec import Spec

DEFAULT_LIMIT = 2000  # samples that a report measures on, unless more are asked for


@dataclass(frozen=True)
class Report:
    """Files by name, `report.html` and `report.json`, and the verdict in them."""

    texts: Mapping[str, str]
    verdict: str


def report_job(
    output: Path,
    data: str | None,
    limit: int | None,
    folder: Path | None,
    cache: str | None,
    changes: dict[str, Any],
    progress: Progress,
) -> tuple[Path, str]:
    """Write the report of a fusion that was saved, into its own directory or another. Returns the page and its verdict.

    The models it came from are aligned again, as they were, and measured.

    Args:
        data: to measure on; None: what the fusion used, which it is aligned by in any case.
        cache: where a fusion kept its maps.
        changes: options that change no map, as the device.

    Raises:
        TransfuseError: what is in `output` is no fusion, or what it came from is gone or has changed.
    """
    record = read_record(output)
    names = [_unchanged(each, record["directory"]) for each in record["models"]]
    options: Options = make(Options, non_default_options(record) | changes)
    options.torch_device()
    kind, *_ = check_checkpoints(names, options, check_fusible)
    used = record["data"] and _there(record["data"], record["directory"])
    shown = samples_to_measure(used if data is None else data, names[0], kind, limit or DEFAULT_LIMIT, options)
    samples = None if used is None else task(kind).samples(load_samples(str(used), CALIBRATION))
    matched = match(names, samples, progress, cache=cache, **options.model_dump(exclude_unset=True))
    report = build_report(matched, load_model(output), record, output.resolve().name, shown, progress)
    target = output if folder is None else folder
    write_report(target, report.texts)
    return target / "report.html", report.verdict


def read_record(output: Path) -> dict[str, Any]:
    """What `transfuse.json` says of a fusion. Raises `CheckpointError` or `ConfigError`."""
    folder = local_directory(output)
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{output}: holds no {RECORD}, so it is no fusion; give what fuse wrote") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{output / RECORD}: cannot be read ({error}); fuse again") from error
    if isinstance(record, dict) and "finetuned" in record:
        raise ConfigError(f"{output}: was fine-tuned, not fused; measure it with transfuse eval")
    wanted = {"models": list, "options": dict, "versions": dict, "alignments": list}
    if not isinstance(record, dict) or not all(isinstance(record.get(name), kind) for name, kind in wanted.items()):
        raise CheckpointError(f"{output / RECORD}: is not what fuse writes; fuse again")
    usual = {"data": None, "calibration_samples": 0, "match_on": "weights", "merge": "mean", "directory": "."}
    return usual | record


def _there(path: str, directory: str) -> str:
    """A path that was given in `directory`, from here."""
    there = Path(directory) / path
    return path if Path(path).exists() or not there.exists() else str(there)


def _unchanged(model: Mapping[str, Any], directory: str) -> str:
    """The path of a model that a fusion came from. Raises `ConfigError` where it is not what it was."""
    path = model.get("path")
    if not isinstance(path, str):
        raise ConfigError("a model that was passed in memory cannot be looked at again; save it, and fuse from there")
    path = _there(path, directory)
    if file_hashes(local_directory(path, "allow")) != model.get("sha256"):
        raise ConfigError(f"{path}: is not what was fused, it has changed since; fuse again")
    return path


def samples_to_measure(data: str | None, anchor: str, kind: str, limit: int, options: Options) -> Samples | None:
    """Samples with answers; None where there are none, or a model of this class gives none that can be measured.

    Raises:
        DataError: their answers are not those of the anchor.
    """
    if data is None:
        return None
    try:
        samples = task(kind).labeled(load_samples(data)).take(limit, options.seed)
    except (DataError, SpecError):
        return None
    return with_model_ids(read_config(local_directory(anchor, "allow")), samples)


def build_report(
    matched: Matched,
    fused: PreTrainedModel | None,
    record: Mapping[str, Any],
    name: str,
    samples: Samples | None,
    progress: Progress,
    ways: Sequence[Row] = (),
) -> Report:
    """Return the report of a fusion.

    Args:
        fused: the fused model; only needed with samples.
        name: the name of its directory.
        samples: what to measure on; None: nothing is measured.
        ways: measurements of other methods for the same models.
    """
    from transfuse.report.measure import measure

    found, anchor = None, matched.anchor
    try:
        check_measurable(anchor.config, type(anchor).__name__)
    except SpecError:
        samples = None
    if samples is not None and fused is not None:
        batches = list(labeled_batches(samples, anchor, str(matched.inputs.origins[0].path), matched.options))
        found = measure(matched, fused, batches, samples.source, progress)
    return _report(matched.networks[0].spec, matched.options, matched.alignments, record, name, found, ways)


def _report(
    spec: Spec,
    options: Options,
    alignments: Sequence[Alignment],
    record: Mapping[str, Any],
    name: str,
    found: Any,
    ways: Sequence[Row],
) -> Report:
    from transfuse.report.facts import Facts, matched_spaces
    from transfuse.report.page import page
    from transfuse.report.verdict import verdict

    title = f"{name}: {len(record['models'])} models fused"
    seen = alignment_spec(spec, options.align, options.flow, options.groups)
    facts = Facts(
        title, verdict(found), reproducing_call(name, record), record, matched_spaces(seen, alignments), found
    )
    document = json.dumps(json_values(facts.as_dict()), indent=1, ensure_ascii=False, allow_nan=False)
    return Report({"report.html": page(facts, alignments, ways), "report.json": document + "\n"}, facts.verdict)


def write_report(folder: Path, texts: Mapping[str, str]) -> None:
    """Write the files of a report, each of them whole or not at all. Raises `OutputError`."""
    check_report(folder)
    make_folder(folder)
    for name, text in texts.items():
        with atomic_file(folder / name) as partial:
            partial.write_text(text, encoding="utf-8")
