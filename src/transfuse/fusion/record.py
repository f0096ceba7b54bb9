"""Build the content of `transfuse.json`: inputs with hashes, options, versions, and diagnostics of every space."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from transfuse.base.batch import batch_size
from transfuse.base.hashing import samples_digest
from transfuse.checkpoint.record.memory_inputs import matched_on_samples
from transfuse.checkpoint.record.origin import run_facts
from transfuse.data.load import data_name
from transfuse.fusion.matched import Matched
from transfuse.fusion.models.vocabulary import Rows
from transfuse.transport.solve import Match


def fusion_record(matched: Matched, method: str, merged: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of a fusion.

    Args:
        method: the merge method.
        merged: what the method recorded.
    """
    record = _inputs_and_maps(matched) | {"merge": method}
    inputs, batches = matched.inputs, matched.context.batches
    facts = {
        "growth": None if matched.growth is None else matched.growth.record(),
        "resized": list(inputs.resized) or None,
        "samples_sha256": samples_digest(batches) if batches and matched_on_samples(record) else None,
        "shared_base": None if matched.base_correlation is None else {"correlation": matched.base_correlation},
        "base": None if inputs.base_origin is None else inputs.base_origin.entry(),
        "other_processors": [asdict(other) for other in matched.other_processors or ()] or None,
        "learning": None if matched.history is None else asdict(matched.history),
        "shared_tokens": _shared_tokens(inputs.rows),
        "streamed": True if inputs.streamed else None,
    }
    return record | {name: fact for name, fact in facts.items() if fact is not None} | dict(merged)


def _inputs_and_maps(matched: Matched) -> dict[str, Any]:
    """Return what is recorded of every fusion: the models, the options, the samples, the versions, and the maps."""
    origins, options, context, data = matched.inputs.origins, matched.options, matched.context, matched.data
    return {
        "models": [model.entry() | {"weight": weight} for model, weight in zip(origins, matched.weights, strict=True)],
        "options": options.model_dump(mode="json"),
        "match_on": context.match_on,
        "merge": None,
        "data": data_name(data),
        "calibration_samples": sum(map(batch_size, context.batches)),
        **({"calibration_split": matched.split} if matched.split and context.batches else {}),
        "alignments": [
            {
                "model": index + 1,
                "output_deviation": alignment.output_deviation,
                "disagreement_of_candidates": dict(alignment.candidates),
                "spaces": {name: match_diagnostics(match) for name, match in alignment.matches.items()},
            }
            for index, alignment in enumerate(matched.alignments)
        ],
        **run_facts(origins[0].path),
    }


def _shared_tokens(rows_of_sources: Sequence[Rows | None]) -> list[int | None] | None:
    """Return how many tokens each source shares with the anchor, None for the same vocabulary; None if all have it."""
    if all(rows is None for rows in rows_of_sources):
        return None
    return [None if rows is None else int((rows >= 0).sum()) for rows in rows_of_sources]


def match_diagnostics(match: Match) -> dict[str, float | int]:
    """Return size, cost, exactness |push pull^T - I|, entropy and effective support of the map of one space."""
    source_units, target_units = match.map.units
    return {
        "source_units": source_units,
        "target_units": target_units,
        "cost": match.cost,
        "exactness": match.map.exactness(),
        "entropy": match.map.entropy(),
        "effective_support": match.map.support(),
    }
