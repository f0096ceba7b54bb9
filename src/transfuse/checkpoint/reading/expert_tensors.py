"""What is wrong with the tensors of a checkpoint that stores each expert of a mixture by itself.

transformers joins these tensors while it loads them. If one is missing, it names none.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path

from transfuse.checkpoint.reading.files import stored_shapes

Shape = tuple[int, ...]

NAME = re.compile(r"(?P<layer>.*\bexperts\.)(?P<expert>\d+)\.(?P<part>.*)")
MISSING, UNEXPECTED, MISSHAPEN = "missing", "unexpected", "of a wrong shape"


def expert_problems(files: Sequence[Path]) -> dict[str, list[str]]:
    """Return the names of tensors of experts that are missing, unexpected, or of a wrong shape, by what is wrong.

    What most experts have decides. Files of other formats than safetensors have no known problems.
    """
    readable = (file for file in files if file.suffix == ".safetensors")
    return problems_of({name: shape for file in readable for name, shape in stored_shapes(file).items()})


def problems_of(shapes: Mapping[str, Shape]) -> dict[str, list[str]]:
    """Return the problems of tensors with these names and shapes, as `expert_problems` does."""
    found = {name: match.group("layer", "expert", "part") for name in shapes if (match := NAME.fullmatch(name))}
    layers, numbers = ({each[position] for each in found.values()} for position in (0, 1))
    experts = list(product(layers, numbers))
    owners = Counter(part for _, _, part in found.values())
    parts = [part for part, count in owners.items() if 2 * count > len(experts)]
    due = {f"{layer}{expert}.{part}" for layer, expert in experts for part in parts}
    usual = {part: _most_common(shapes[name] for name, (*_, own) in found.items() if own == part) for part in parts}
    problems = {
        MISSING: sorted(due - found.keys()),
        UNEXPECTED: sorted(found.keys() - due),
        MISSHAPEN: sorted(
            f"{name} {shapes[name]} for {usual[part]}"
            for name, (*_, part) in found.items()
            if part in usual and shapes[name] != usual[part]
        ),
    }
    return {kind: names for kind, names in problems.items() if names}


def _most_common(shapes: Iterable[Shape]) -> Shape:
    return Counter(shapes).most_common(1)[0][0]
