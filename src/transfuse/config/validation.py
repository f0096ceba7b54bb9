"""Options that say nothing together: one without an effect is a misunderstanding, not a preference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from transfuse.config.literals import EXACT, FLOW, LEARNING
from transfuse.errors import ConfigError

if TYPE_CHECKING:
    from transfuse.config.options import Options

TAKEN = (  # options, and the alignments that take them
    (FLOW, ("flow",)),
    (("groups", "basis"), EXACT),
)


def check_together(chosen: Options, labels: Mapping[str, str]) -> None:
    """Raise `ConfigError` for options that do nothing beside the others."""
    given = {name for name in chosen.model_fields_set if getattr(chosen, name) is not None}

    def refuse(name: str, why: str) -> ConfigError:
        return ConfigError(f"{labels.get(name, name)}: {why}")

    if chosen.align == "none" and chosen.evidence != "auto":
        raise refuse("evidence", "align none looks at nothing; leave it out, or choose another align")
    for names, alignments in TAKEN:
        takes, choose = ("takes", f"align {alignments[0]}") if len(alignments) == 1 else ("take", "one")
        for name in sorted(given.intersection(names)):
            if chosen.align not in alignments:
                only = f"only align {' and '.join(alignments)} {takes} it"
                raise refuse(name, f"{only}; leave it out, or choose {choose}")
    for name in sorted(given.intersection(LEARNING)):
        if not chosen.learns:
            raise refuse(name, "only align learned and merge learned take it; leave it out, or choose one")
    for name in sorted(given & {"regularization", "support"}):
        if chosen.plan not in ("soft", "widening"):
            why = f"only soft plans are regularized, not {chosen.plan} ones; leave it out, or choose plan soft"
            raise refuse(name, why)
    if {"regularization", "support"} <= given:
        raise refuse("support", "it sets the regularization; give one of them")
    if "max_loss" in given and chosen.evidence == "weights" and chosen.policy not in ("scalar", "matrix"):
        why = "weights are matched without samples; leave it out, or choose evidence activations"
        raise refuse("max_loss", why)
    if chosen.align == "flow" and chosen.evidence == "both":
        why = "align flow matches by activations or by weights, not by both; choose one"
        raise refuse("evidence", why)


def check_data(chosen: Options, data: bool, labels: Mapping[str, str]) -> None:
    """Raise `ConfigError` for options that need samples where there are none, or that ask the parents nothing."""
    asks_parents = chosen.align == "learned" and chosen.objective == "parents"
    if "trust" in chosen.model_fields_set and chosen.merging(data) == "mean" and not asks_parents:
        raise ConfigError(
            f"{labels.get('trust', 'trust')}: only what the parents say about --data is trusted or not; give"
            " --data, and choose merge least-squares or learned, or align learned, or leave it out"
        )
    if data:
        return
    if chosen.merge == "least-squares":
        raise ConfigError("merge least-squares fits layers to samples; give --data, or choose merge mean")
    if chosen.merge == "learned":
        raise ConfigError("merge learned learns from samples; give --data, or choose merge mean")
    if chosen.align == "learned":
        raise ConfigError("align learned learns from samples; give --data, or choose align exact")
    if chosen.align != "none" and chosen.evidence in ("activations", "both"):
        raise ConfigError(f"evidence {chosen.evidence} needs data; give --data, or choose --evidence weights")
