"""The report of a fusion as one self-contained HTML page, without scripts or network access."""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from transfuse.alignment.interface import Alignment
from transfuse.base.counted import counted
from transfuse.base.short_names import short_names
from transfuse.base.sizes import format_bytes
from transfuse.checkpoint.card import data_name, shown_weights
from transfuse.checkpoint.command import source_of
from transfuse.report.cells import metric_interval, metric_title, metric_value
from transfuse.report.evaluation_tables import format_p_value
from transfuse.report.facts import Facts
from transfuse.report.figures import figures, is_exact
from transfuse.report.names import row_labels
from transfuse.report.words import kinds_in_words, space_words

MAX_HEADS = 64  # in a row of a table


def page(facts: Facts, alignments: Sequence[Alignment], methods: Sequence[Any] = ()) -> str:
    """Return the page. All names in it are escaped.

    Args:
        facts: the content of the page.
        alignments: alignments to plot; empty for none.
        methods: rows of `compare.Comparison`, for a table of other methods to fuse the same models.
    """
    environment = Environment(loader=PackageLoader("transfuse", "report"), autoescape=True, trim_blocks=True)
    environment.filters |= {
        "size": format_bytes,
        "counted": counted,
        "p_value": format_p_value,
        "svg": Markup,
        "weights_hash": _weights_hash,
        "short_data": _short_data,
        "space_words": space_words,
        "metric_title": metric_title,
        "metric_value": metric_value,
        "metric_interval": metric_interval,
    }
    heads = [space for space in facts.matched if space.pairs and len(space.pairs) <= MAX_HEADS]
    measured = facts.measured
    return environment.get_template("template.html").render(
        facts=facts,
        labels=row_labels(measured) if measured else {},
        model_names=short_names([model["path"] or "passed in memory" for model in facts.record["models"]]),
        weights=shown_weights(facts.record),
        kinds=kinds_in_words(facts.matched),
        all_exact=all(map(is_exact, facts.matched)),
        record=facts.record,
        roles=list(facts.record.get("carried", ())),
        measured=measured,
        methods=methods,
        heads=heads,
        head_count=max((len(space.pairs) for space in heads), default=0),
        figures=figures(facts, alignments),
        measures=measured.table_measures if measured else (),
    )


def _short_data(source: str) -> str:
    """Return the name of samples without the folders that they are in, with their split."""
    return data_name(source) + source.removeprefix(source_of(source))


def _weights_hash(hashes: Mapping[str, str]) -> str:
    """Return the beginning of the hash of the weights, or of their first file."""
    digests = [digest for name, digest in sorted(hashes.items()) if not name.endswith(".json") and name != "config"]
    return digests[0][:12] if digests else ""
