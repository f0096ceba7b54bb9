"""Make the table of fusions of two widths."""

from common import load
from rows import markdown


def table() -> str:
    """Return test loss and accuracy of every way, by the anchor."""
    found = load("widths")["rows"]
    names = [name for name in found["anchor: narrow"] if name not in ("anchor", "the other")]
    lines = []
    for label, name in [("anchor", "anchor"), ("the other parent", "the other"), *((name, name) for name in names)]:
        cells = [found[f"anchor: {width}"][name] for width in ("narrow", "wide")]
        texts = [f"{cell['loss']:.3f} ({100 * cell['accuracy']:.1f} %)" for cell in cells]
        shown = f"**`--merge {'learned' if name == 'learned' else 'least-squares'}`**"
        lines.append([shown if name in ("learned", "closed form") else label, *texts])
    return markdown(["test loss (accuracy)", "narrow anchor", "wide anchor"], lines)
