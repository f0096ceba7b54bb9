"""One self-contained HTML page about a comparison of all ways to fuse two models."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader

from transfuse.compare import HALF, Comparison
from transfuse.report.plots import as_png, path_figure, plan_figure
from transfuse.report.record import diagnose

CONTROLS = {"uniform plan (control)", HALF}
NOTE = (
    "Barrier: the largest excess of the loss on the straight line between the aligned models over the line between the"
    " parents' losses, in nats. A method is worth something where it beats the plain average and both controls: the"
    " uniform plan knows nothing of the units, half the anchor nothing of the other model. The ensemble costs twice as"
    " much at inference."
)


@dataclass(frozen=True)
class Picture:
    """A titled PNG, base64."""

    title: str
    alt: str
    caption: str
    png: str


def page(comparison: Comparison, title: str, command: str) -> str:
    """The page as HTML; names are escaped."""
    template = Environment(loader=PackageLoader("transfuse", "report"), autoescape=True).get_template("template.html")
    spaces = {
        name: {space: diagnose(match) for space, match in aligned.matches.items()}
        for name, aligned in reversed(comparison.alignments.items())
        if aligned.matches and name not in CONTROLS
    }
    return template.render(
        title=title, verdict=verdict(comparison), rows=comparison.rows, best=best(comparison), note=NOTE,
        pictures=_pictures(comparison), diagnostics=spaces, command=command,
    )  # fmt: skip


def best(comparison: Comparison) -> str:
    """The fusion with the lowest loss, controls aside."""
    fused = (row for row in comparison.rows if row.name in comparison.alignments and row.name not in CONTROLS)
    return min(fused, key=lambda row: row.metrics.loss).name


def verdict(comparison: Comparison) -> str:
    """What came of it, in a sentence."""
    winner, plain = (comparison.row(name) for name in (best(comparison), "plain average"))
    weaker, stronger = sorted(comparison.row(name).metrics.accuracy for name in ("anchor", "other parent"))
    accuracy = winner.metrics.accuracy
    where = (
        "above both parents" if accuracy > stronger
        else "between the parents" if accuracy >= weaker
        else f"{100 * (weaker - accuracy):.1f} points below the weaker parent: fine-tune it"
    )  # fmt: skip
    return (
        f"Best: {winner.name}, {accuracy:.1%} accuracy in one model, {where}."
        f" The plain average of the same two has {plain.metrics.accuracy:.1%}."
    )


def _pictures(comparison: Comparison) -> Sequence[Picture]:
    lines = {name: line for name, line in comparison.lines.items() if name not in CONTROLS}
    pictures = [
        Picture(
            "From one parent to the other", "Loss and accuracy along the line, one curve for each alignment",
            "The straight line between the anchor (left) and the aligned other model (right), measured on test data."
            " A model that was carried exactly ends where its parent is.",
            _base64(as_png(path_figure(lines))),
        )
    ]  # fmt: skip
    if "flow, soft" in comparison.alignments:
        matches = comparison.alignments["flow, soft"].matches
        space, match = next((name, match) for name, match in matches.items() if name.endswith(".hidden"))
        pictures.append(
            Picture(
                "A transport plan", f"Heat map of the soft plan of space {space}",
                f"Soft plan of space {space}: each row is a unit of the other model, spread over the anchor's units, in"
                " such an order that matches lie on the diagonal; effective support"
                f" {match.map.support():.1f} of {match.map.plan().shape[-1]}.",
                _base64(as_png(plan_figure(match.map.plan(), space))),
            )
        )  # fmt: skip
    return pictures


def _base64(png: bytes) -> str:
    return b64encode(png).decode()
