"""Run `transfuse report` and `transfuse fuse --report`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedModel

from transfuse.alignment.spec_for import alignment_spec
from transfuse.base.counted import counted
from transfuse.base.progress import Progress, silent
from transfuse.checkpoint.reading.config_file import read_config
from transfuse.checkpoint.reading.load import load_model, local_directory
from transfuse.checkpoint.record.command import carry_call, fuse_call, non_default_options
from transfuse.checkpoint.record.memory_inputs import has_samples_in_memory
from transfuse.checkpoint.record.origin import resolved
from transfuse.checkpoint.writing.owned import REPORT_PAGE
from transfuse.cli.jobs.inspection import check_checkpoints, check_fusible
from transfuse.cli.jobs.report_files import check_unmeasured, report_texts, update_card, write_report
from transfuse.cli.jobs.report_inputs import check_same_samples, read_record, samples_of, unchanged_path
from transfuse.config.data_options import DataOptions, is_generated
from transfuse.config.make import make
from transfuse.config.options import Options
from transfuse.data.tasks import with_model_ids
from transfuse.data.text.generation import calibration_samples
from transfuse.errors import ConfigError, DataError, SpecError
from transfuse.evaluation.samples import MeasuredSamples, measured_samples
from transfuse.fusion.compare import Row
from transfuse.fusion.match import match
from transfuse.fusion.matched import Matched

if TYPE_CHECKING:
    from transfuse.report.facts import Measurement

# Options that matching by weights reads:
MATCHING = (
    "align",
    "allow_pickle",
    "basis",
    "device",
    "groups",
    "head",
    "positions",
    "settings",
    "seed",
    "spec",
    "vocab",
    "weights",
)
COLUMNS = ("text_column", "label_column", "image_column", "lines")  # options that fit one source of samples
DEFAULT_LIMIT = 2000  # samples that a report measures on by default


@dataclass(frozen=True)
class Report:
    """Hold a report.

    Attributes:
        texts: the texts of `report.html` and `report.json`, by file name.
        verdict: how the fusion compares with its parents, in one or two sentences.
        measured: the measurements; None without labeled samples.
    """

    texts: Mapping[str, str]
    verdict: str
    measured: "Measurement | None" = None


def report_job(
    output: Path,
    data: str | None,
    limit: int | None,
    folder: Path | None,
    cache: str | None,
    changes: dict[str, Any],
    progress: Progress,
) -> tuple[Path, Report]:
    """Write the report of a saved fusion, and its measurements into the model card.

    The inputs of the fusion are aligned again with the same options, and measured.

    Args:
        output: the folder of the fused model.
        data: labeled samples to measure on; None: the samples of the fusion. The alignment always uses the latter.
        limit: the number of samples to measure on; None: `DEFAULT_LIMIT`.
        folder: the folder to write to; None: `output`. The model card is left as it is if this is another folder.
        cache: the cache of the fusion, if it had one.
        changes: options that do not change the alignment, such as the device, and how the samples to measure on are
            read. By default, these are the test split, and with other samples, the columns with usual names.

    Returns:
        The path of the page, and the report.

    Raises:
        TransfuseError: `output` has no fusion, an input of the fusion is missing or has changed, the samples that units
            were matched on have changed, `changes` say how to read samples and none can be read so, or the folder has a
            report with measurements and there are no labeled samples for another one.
    """
    record = read_record(output)
    paths = [unchanged_path(model, record["directory"]) for model in record["models"]]
    recorded = non_default_options(record)
    if "spec" in recorded:
        recorded["spec"] = resolved(recorded["spec"], record["directory"])
    given = data is not None
    fit_others = {name for name in recorded if name == "split" or (given and name in COLUMNS)}
    kept = {name: value for name, value in recorded.items() if name not in fit_others}
    measuring: Options = make(Options, kept | changes)
    options: Options = make(
        Options, recorded | {name: value for name, value in changes.items() if name not in DataOptions.model_fields}
    )
    options.torch_device()
    base = unchanged_path(record["base"], record["directory"]) if "base" in record else None
    architecture, *_ = check_checkpoints([*paths, *([base] if base else [])], options, check_fusible)
    fusion_data = samples_of(record, output)
    test_data = data if given else fusion_data
    reading = [name for name in DataOptions.model_fields if changes.get(name)]
    if reading and (test_data is None or is_generated(test_data)):
        raise ConfigError(f"{reading[0]}: the fusion has no file of samples to read; give samples with --data")
    read = partial(samples_to_measure, test_data, paths[0], architecture, limit or DEFAULT_LIMIT)
    required = given or bool(reading)
    has_other_split = not given and measuring.split is None and options.split is not None  # under a name of its own
    test_samples = read(measuring, silent if has_other_split else progress, required and not has_other_split)
    if has_other_split and test_samples is None:
        test_samples = read(measuring.model_copy(update={"split": options.split}), progress, required)
    target = output if folder is None else folder
    if test_samples is None or not test_samples.labeled:
        check_unmeasured(target, test_samples is not None)
    matched = _matched_again(paths, base, fusion_data, architecture, record, options, cache, progress)
    blocks = {name: getattr(measuring, name) for name in ("block_size", "stride")}
    matched = replace(matched, options=matched.options.model_copy(update=blocks))
    report = build_report(matched, load_model(output), record, output.resolve().name, test_samples, progress)
    write_report(target, report.texts)
    if target.resolve() == output.resolve():
        update_card(output, record, report.verdict, report.measured, progress)
    return target / REPORT_PAGE, report


def _matched_again(
    paths: Sequence[str],
    base: str | None,
    data: str | None,
    architecture: str,
    record: Mapping[str, Any],
    options: Options,
    cache: str | None,
    progress: Progress,
) -> Matched:
    """Return the models of a fusion, matched as its record says.

    Raises:
        TransfuseError: a model or the samples cannot be read, or the samples have changed.
    """
    with_split = options.model_copy(update={"split": options.split or record.get("calibration_split")})
    samples = calibration_samples(data, architecture, with_split)
    chosen = options.model_dump(exclude_unset=True)
    in_memory = has_samples_in_memory(record)
    if in_memory:  # which had no part in the matching, so that it needs no option on samples
        chosen = {name: value for name, value in chosen.items() if name in MATCHING}
    matched = match(paths, samples, progress, cache=cache, base=base, **chosen)
    check_same_samples(record, matched.context.batches)
    return replace(matched, options=options, data=record["data"]) if in_memory else matched


def samples_to_measure(
    data: str | None,
    anchor: str,
    architecture: str,
    limit: int,
    options: Options,
    progress: Progress,
    required: bool = False,
) -> MeasuredSamples | None:
    """Return samples to measure on, with labels if there are any; None without data, or if it cannot be read so.

    Args:
        progress: is told why data cannot be read so.
        required: whether data that cannot be read so is an error.

    Raises:
        DataError: the labels are not classes of the anchor, or data that is required cannot be measured on.
        SpecError: data is required, and none can measure models of this class.
    """
    if data is None or is_generated(data):
        return None
    config = read_config(local_directory(anchor, "allow"))
    try:
        measured = measured_samples(data, options, architecture, config).take(limit, options.seed)
    except (DataError, SpecError) as error:
        if required:
            raise
        progress.warn(f"the report measures nothing: {error}")
        return None
    return replace(measured, samples=with_model_ids(config, measured.samples))


def build_report(
    matched: Matched,
    fused: PreTrainedModel | None,
    record: Mapping[str, Any],
    name: str,
    samples: MeasuredSamples | None,
    progress: Progress,
    other_methods: Sequence[Row] = (),
) -> Report:
    """Return the report of a fusion.

    Args:
        fused: the fused model; only required with samples.
        record: the content of `transfuse.json`.
        name: the name of the output folder.
        samples: the samples to measure on; None: nothing is measured.
        other_methods: measurements of other methods for the same models.
    """
    from transfuse.report.carried import carried_verdict
    from transfuse.report.facts import Facts, matched_spaces
    from transfuse.report.measure import measure
    from transfuse.report.page import page
    from transfuse.report.verdict import verdict

    measured = None
    if samples is not None and fused is not None:
        measured = measure(matched, fused, samples, progress)
    carries = "carried" in record
    title = f"{name}: {'a fine-tune carried' if carries else counted(len(record['models']), 'model') + ' fused'}"
    options = matched.options
    aligned_spec = alignment_spec(matched.networks[0].spec, options.align, options.flow, options.groups)
    alignments = matched.alignments[:1] if carries else matched.alignments  # the tuned model follows its base
    spaces = matched_spaces(aligned_spec, alignments)
    call = carry_call if carries else fuse_call
    found = carried_verdict(measured) if carries and measured else verdict(measured)
    facts = Facts(title, found, call(record.get("output") or name, record), record, spaces, measured)
    return Report(report_texts(facts, page(facts, alignments, other_methods)), facts.verdict, measured)
