"""A report as one self-contained HTML page, without scripts or network access, and the page of a fusion."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from transfuse.alignment.interface import Alignment
from transfuse.base.counted import counted
from transfuse.base.short_names import short_names
from transfuse.base.sizes import format_bytes
from transfuse.checkpoint.cards.card import short_data_name, shown_weights
from transfuse.checkpoint.cards.processor_sentences import processor_sentences
from transfuse.data.files.splits import with_split
from transfuse.report.cells import metric_interval, metric_title, metric_value
from transfuse.report.evaluation_tables import format_p_value
from transfuse.report.facts import Facts
from transfuse.report.figures import figures, is_exact
from transfuse.report.names import row_labels
from transfuse.report.verdict import controls_note
from transfuse.report.words import kinds_in_words, space_words

MAX_HEADS = 64  # in a row of a table


def page(facts: Facts, alignments: Sequence[Alignment], methods: Sequence[Any] = ()) -> str:
    """Return the page of a fusion.

    Args:
        facts: the content of the page.
        alignments: alignments to plot; empty for none.
        methods: rows of `compare.Comparison`, for a table of other methods to fuse the same models.
    """
    heads = [space for space in facts.matched if space.pairs and len(space.pairs) <= MAX_HEADS]
    roles = list(facts.record.get("carried", ()))
    return render(
        "fusion.html",
        facts,
        alignments,
        model_names=short_names([model["path"] or "passed in memory" for model in facts.record["models"]]),
        weights=shown_weights(facts.record),
        kinds=kinds_in_words(facts.matched),
        all_exact=all(map(is_exact, facts.matched)),
        roles=roles,
        processors=_other_processors(facts),
        controls=controls_note(facts.measured, facts.record) if facts.measured and not roles else "",
        methods=methods,
        heads=heads,
        head_count=max((len(space.pairs) for space in heads), default=0),
    )


def _other_processors(facts: Facts) -> list[str]:
    """Return a sentence on each model whose processor differs from that which prepared the samples."""
    measured = facts.measured.other_processors if facts.measured else ()
    others = facts.record.get("other_processors") or [asdict(other) for other in measured]
    return processor_sentences(others, facts.record["models"])


def render(template: str, facts: Facts, alignments: Sequence[Alignment] = (), **values: Any) -> str:
    """Return a page. All names in it are escaped.

    Args:
        template: the name of the template, which extends `page.html`.
        facts: the content that all pages share.
        alignments: alignments to plot; empty for none.
        values: further values of the template.
    """
    environment = Environment(loader=PackageLoader("transfuse", "report"), autoescape=True, trim_blocks=True)
    environment.filters |= {
        "size": format_bytes,
        "counted": counted,
        "p_value": format_p_value,
        "svg": Markup,
        "weights_hash": _weights_hash,
        "short_data": short_data_name,
        "with_split": with_split,
        "space_words": space_words,
        "metric_title": metric_title,
        "metric_value": metric_value,
        "metric_interval": metric_interval,
    }
    return environment.get_template(template).render(
        facts=facts,
        record=facts.record,
        measured=facts.measured,
        labels=row_labels(facts.measured) if facts.measured else {},
        figures=figures(facts, alignments),
        **values,
    )


def _weights_hash(hashes: Mapping[str, str]) -> str:
    """Return the beginning of the hash of the weights, or of their first file."""
    digests = [digest for name, digest in sorted(hashes.items()) if not name.endswith(".json") and name != "config"]
    return digests[0][:12] if digests else ""
