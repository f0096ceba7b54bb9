"""The kinds of predictions, by the name that `data.tasks.Task.kind` gives."""

from transfuse.evaluation.kind import Kind
from transfuse.evaluation.kinds.answers import ANSWERS
from transfuse.evaluation.kinds.classes import CLASSES
from transfuse.evaluation.kinds.entities import ENTITIES
from transfuse.evaluation.kinds.label_sets import LABEL_SETS
from transfuse.evaluation.kinds.numbers import NUMBERS
from transfuse.evaluation.kinds.outputs import OUTPUTS
from transfuse.evaluation.kinds.pairs import PAIRS
from transfuse.evaluation.kinds.tokens import TOKENS

KINDS: dict[str, Kind] = {
    "classes": CLASSES,
    "numbers": NUMBERS,
    "label_sets": LABEL_SETS,
    "entities": ENTITIES,
    "answers": ANSWERS,
    "outputs": OUTPUTS,
    "pairs": PAIRS,
    "tokens": TOKENS,
}
