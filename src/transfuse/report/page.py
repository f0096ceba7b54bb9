"""One self-contained HTML page about a fusion: no script, no network."""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from transfuse.alignment.interface import Alignment
from transfuse.base.sizes import format_bytes
from transfuse.evaluation.statistics import Interval
from transfuse.report.facts import Facts
from transfuse.report.pictures import figures
from transfuse.report.tables import probability

WIDEST = 64  # heads in a row


def page(facts: Facts, alignments: Sequence[Alignment], ways: Sequence[Any] = ()) -> str:
    """The page; names are escaped.

    Args:
        alignments: drawn from, where they are at hand.
        ways: rows of `compare.Comparison`, for a table of every way to fuse the same models.
    """
    environment = Environment(loader=PackageLoader("transfuse", "report"), autoescape=True, trim_blocks=True)
    environment.filters |= {
        "size": format_bytes,
        "probability": probability,
        "svg": Markup,
        "weights_hash": _weights_hash,
        "percents": _percents,
        "numbers": _numbers,
    }
    heads = [each for each in facts.matched if each.pairs and len(each.pairs) <= WIDEST]
    return environment.get_template("template.html").render(
        facts=facts,
        record=facts.record,
        found=facts.measured,
        ways=ways,
        heads=heads,
        most=max((len(each.pairs) for each in heads), default=0),
        pictures=figures(facts, alignments),
        speaks=facts.measured is not None and "perplexity" in facts.measured.measures,
    )


def _weights_hash(hashes: Mapping[str, str]) -> str:
    """The beginning of the hash of the weights, or of their first file."""
    found = [digest for name, digest in sorted(hashes.items()) if not name.endswith(".json") and name != "config"]
    return found[0][:12] if found else ""


def _percents(interval: Interval | None) -> str:
    return "" if interval is None else f"[{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def _numbers(interval: Interval | None) -> str:
    return "" if interval is None else f"[{interval[0]:.3f}, {interval[1]:.3f}]"
