"""Write a report to a folder, and its measurements into the model card there."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transfuse.base.folders import make_folder
from transfuse.base.progress import Progress
from transfuse.checkpoint.cards.card import task_of
from transfuse.checkpoint.cards.quality import with_quality
from transfuse.checkpoint.reading.companions import CARD
from transfuse.checkpoint.writing.output import atomic_file
from transfuse.checkpoint.writing.owned import REPORT_JSON, REPORT_PAGE, is_own_file, json_or_none
from transfuse.cli.output import json_values
from transfuse.cli.targets import check_report
from transfuse.errors import ConfigError, InterruptedRunError, TransfuseError

if TYPE_CHECKING:
    from transfuse.report.facts import Facts, Measurement


def check_unmeasured(folder: Path, compares: bool) -> None:
    """Raise `ConfigError` if a folder has a report with measurements, which a report without labels would replace.

    Args:
        compares: whether the report compares models without labels, so that it may replace another one that does.
    """
    earlier = json_or_none(folder / REPORT_JSON)
    measured = earlier.get("measured") if isinstance(earlier, dict) else None
    if measured and not (compares and measured.get("labeled") is False):
        raise ConfigError(
            f"{folder / REPORT_PAGE}: holds measurements, which a report without labeled samples would replace; give"
            " samples with --data, or another folder with -o"
        )


@contextmanager
def after_writing(output: Path, part: str) -> Iterator[None]:
    """Say in an error or interruption that the model was written, but not what comes after it; the output is kept."""
    try:
        yield
    except TransfuseError as error:
        raise type(error)(f"{output}: the model was written, but not its {part}: {error}") from error
    except KeyboardInterrupt as error:
        raise InterruptedRunError(f"interrupted; {output}: the model was written, but not its {part}") from error


def report_texts(facts: "Facts", page: str) -> dict[str, str]:
    """Return the texts of `report.html` and `report.json`, by file name."""
    document = json.dumps(json_values(facts.as_dict()), indent=1, ensure_ascii=False, allow_nan=False)
    return {REPORT_PAGE: page, REPORT_JSON: document + "\n"}


def write_report(folder: Path, texts: Mapping[str, str]) -> None:
    """Write the files of a report, each complete or not at all. Raise `OutputError` if one cannot be written."""
    check_report(folder)
    make_folder(folder)
    for name, text in texts.items():
        with atomic_file(folder / name) as partial:
            partial.write_text(text, encoding="utf-8")


def update_card(
    output: Path, record: Mapping[str, Any], verdict: str, measured: "Measurement | None", progress: Progress
) -> None:
    """Write the measurements of a report into the model card, whose other text stays as it is.

    A card without the section that transfuse wrote is left as it is, with a warning.

    Raises:
        OutputError: the card cannot be written.
    """
    from transfuse.report.card import report_quality

    file = output / CARD
    if measured is None or not is_own_file(file):
        return
    quality = report_quality(measured, verdict, record)
    card = with_quality(file.read_text(encoding="utf-8"), output.resolve().name, task_of(record), quality)
    if card is None:
        progress.warn(f"{file}: has no section of transfuse on quality any more, so the measurements are not added")
        return
    with atomic_file(file) as partial:
        partial.write_text(card, encoding="utf-8")
