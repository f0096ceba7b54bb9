"""The start of learned weights: the fitted layers, or another model, whichever held-out samples prefer.

A parent can be nearer to the parents' mean than any closed form, for example if it knows most of what both know. Which
start is best shows only after some steps, because fitted layers improve faster. The other models take a few steps
first. The best of them and the fitted layers then take some more, and the one whose loss is lowest goes on, if the last
improvements continue (compare successive halving, Jamieson & Talwalkar, 1502.07943). A second model takes part
for as long as it catches up with the best one, because a parent that knows less at first may learn more.

The streams of language models can be too different to be compared, even in one basis. Predictions alone then teach
more, which the fitted layers find out for all starts. If streams teach them more, the best other start is trained by
predictions alone too.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import gettempdir

from transformers import PreTrainedModel

from transfuse.base.distributed import process_group
from transfuse.base.run_state import load_state, save_state
from transfuse.config.literals import FITTED_LAYERS
from transfuse.merging.training.learned_weights import WeightDistillation
from transfuse.merging.training.race import Race, StartChoice

PREDICTIONS_ONLY = " (predictions only)"  # follows the name of a start whose streams are not matched


def choose_start(
    loop: WeightDistillation,
    others: Mapping[str, PreTrainedModel],
    saved: Path | None = None,
    compares_targets: bool = False,
) -> StartChoice:
    """Train each start for some steps, and continue from the one with the lowest validation loss.

    Without steps or time for training, the untrained starts are compared.

    Args:
        loop: the training, which has not begun and holds the fitted layers. It continues from the chosen start.
        others: the other starts, by name.
        saved: file to which the state of the training is saved when the start is chosen, and the choice beside it.
        compares_targets: whether the fitted layers are also trained by predictions only.
    """
    begin = time.monotonic()
    race = Race(loop, saved.parent if saved else Path(gettempdir()))
    compares_targets = compares_targets and loop.options.trains
    fitted = _enter_fitted_layers(race, compares_targets)
    kind = fitted.removeprefix(FITTED_LAYERS)
    left, before = _enter_others(race, others, kind)
    finalists = [fitted, *left]
    if compares_targets and not kind and left:  # what fits layers best need not teach a parent best
        finalists.append(race.enter(left[0] + PREDICTIONS_ONLY, others[left[0]], streams=False))
    race.keep_only(finalists)
    race.train(finalists[1:], race.late)
    chosen = race.best(finalists)
    for steps in race.duels if chosen in left else ():
        now = dict(race.choice.losses)
        left = race.contenders(left, before)
        if len(left) == 1:
            break
        race.train(left, steps)
        chosen, before = race.best(left), now
    race.finish(chosen)
    loop.schedule.spend(time.monotonic() - begin)
    loop.save(saved)
    if saved and process_group().first:
        save_state(_choice_file(saved), vars(race.choice))
    return race.choice


def _enter_fitted_layers(race: Race, compares_targets: bool) -> str:
    """Train the fitted layers up to the final round, and return the name of the targets that teach them more."""
    names = [race.enter(FITTED_LAYERS)]
    if compares_targets:
        names.append(race.enter(FITTED_LAYERS + PREDICTIONS_ONLY, streams=False))
    race.train(names, race.late)
    best = race.best(names)
    race.keep_only([best])  # before the states of the others take their memory
    return best


def _enter_others(race: Race, others: Mapping[str, PreTrainedModel], kind: str) -> tuple[list[str], dict[str, float]]:
    """Train the other starts for a first round, and return those that go on, the best first, and all losses then.

    Args:
        kind: what follows their names: `PREDICTIONS_ONLY`, or nothing.
    """
    names = [race.enter(name + kind, model, streams=not kind) for name, model in others.items()]
    if len(names) > 1:
        before = dict(race.choice.losses)
        race.train(names, race.early)
        names = race.contenders(names, before)
    return names, dict(race.choice.losses)


def most_states(others: int, compares_targets: bool) -> int:
    """Return the largest number of starts whose states are kept at a time, the fitted layers among them.

    Args:
        others: the number of the other starts.
        compares_targets: whether some are also trained by predictions only.
    """
    return max(1 + others, 1 + min(others, 2) + compares_targets)


def saved_choice(saved: Path | None) -> StartChoice | None:
    """Return the choice of an interrupted run that saved its state to a file; None if it made none."""
    values = load_state(_choice_file(saved)) if saved else None
    return StartChoice(**values) if values else None


def _choice_file(saved: Path) -> Path:
    return saved.with_name("start.pt")
