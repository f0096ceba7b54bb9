"""What a job that makes a model has written."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transfuse.checkpoint.writing.owned import REPORT_PAGE

if TYPE_CHECKING:
    from transfuse.cli.jobs.report import Report


@dataclass(frozen=True)
class Written:
    """Hold what a job has written.

    Attributes:
        output: the folder of the model.
        record: the content of its `transfuse.json`, and `quality`: a verdict, and the metrics by the name of the model.
        report: its report, if one was asked for.
        address: the address of the repository on the Hub, if the model was written there.
    """

    output: Path
    record: dict[str, Any]
    report: "Report | None" = None
    address: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the result as values that JSON can represent."""
        report = {"report": str(self.output / REPORT_PAGE), "verdict": self.report.verdict} if self.report else {}
        return {"output": str(self.output)} | self.record | report | ({"hub": self.address} if self.address else {})
