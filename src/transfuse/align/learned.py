"""Maps learned by gradient descent: elements of every exact group, moved until the models meet on common ground.

Starts from an alignment, and minimises the loss of networks near the middle between the aligned models: how far they
are from the parents' mean answer, or from labels (Theus et al., 2506.22712, who know labels only). Every step stays
within the exact groups, so each carried model still computes what it did, and what is merged is an ordinary
checkpoint of its architecture.

Moving the anchor too would add nothing: a group acts linearly on the tensors, so that an element common to all models
carries the merged one along without changing what it computes.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from transformers import PreTrainedModel

from transfuse.align.aligned import Aligned
from transfuse.align.descent import EVERY, Course, Descent
from transfuse.batch import Batch
from transfuse.choices import Learning
from transfuse.io.state import load_state, save_state
from transfuse.ranks import here
from transfuse.trust import Believe, even


def learn(
    parents: Sequence[PreTrainedModel], alignments: Sequence[Aligned], weights: Sequence[float],
    batches: Sequence[Batch], options: Learning, believe: Believe = even, seed: int = 0,
    state: Path | None = None,
    each: Callable[[Sequence[int], Callable[[], str]], Iterable[int]] = lambda steps, status: steps,
) -> tuple[list[Aligned], Course]:  # fmt: skip
    """The same models, carried on by learned elements of their groups; what is best on held-out samples is kept.

    Args:
        state: the file in which a run leaves what it needs to go on, and finds what one before it left.
        each: shows progress.
    """
    descent = Descent(parents, alignments, weights, batches, options, believe, seed)
    if state and (found := load_state(state)):
        descent.load_state_dict(found)

    def status() -> str:
        return f"learning maps, excess loss {descent.looks[-1]:.3f} (at first {descent.looks[0]:.3f})"

    for _ in each(range(descent.steps, options.steps), status):
        if not descent.goes_on:
            break
        descent.step()
        if state and descent.steps % EVERY == 0 and here().first:
            save_state(state, descent.state_dict())
    return descent.best()
