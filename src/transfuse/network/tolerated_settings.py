"""Settings of which a model tolerates other values: it then computes nearly the same, or can learn to.

They are the epsilons of norms, the approximations of GELU, the frequencies of rotary positions, and attention windows.
None of them changes a tensor.
"""

import copy
import re
from collections.abc import Iterable
from functools import reduce

from transformers import PreTrainedConfig

from transfuse.network.config_fields import SYNONYMS, FieldDifference, differences

EPSILON = re.compile(r"\w*norm\w*_eps(ilon)?")
WINDOW = "sliding_window"
GELUS = ("gelu", "gelu_new", "quick_gelu")
ROTARY = "rope_parameters"
ROTARY_SHARE = "partial_rotary_factor"  # the share of the channels that rotate, which decides how heads are matched


def tolerated_differences(
    anchor: PreTrainedConfig, source: PreTrainedConfig, architecture: str | None = None
) -> list[FieldDifference]:
    """Return the settings that differ, and of which the source tolerates the anchor's.

    Args:
        architecture: as for `differences`.
    """
    found = [*differences(anchor, source, architecture)]
    shares = [each for each in found if each.path.endswith(ROTARY_SHARE)]
    same_share = all((each.anchor or 1.0) == (each.source or 1.0) for each in shares)
    return [difference for difference in found if _is_tolerated(difference, same_share)]


def with_settings(
    source: PreTrainedConfig, anchor: PreTrainedConfig, found: Iterable[FieldDifference]
) -> PreTrainedConfig:
    """Return a copy of the source's configuration that has the anchor's value of every field that was found."""
    changed = copy.deepcopy(source)
    for difference in found:
        path = difference.path.split(".")
        path = path[: path.index(ROTARY) + 1] if ROTARY in path else path  # its entries belong together
        *parents, name = path
        value = getattr(reduce(getattr, parents, anchor), name)
        setattr(reduce(getattr, parents, changed), name, copy.deepcopy(value))
    return changed


def _is_tolerated(difference: FieldDifference, same_share: bool) -> bool:
    *parents, name = difference.path.split(".")
    if ROTARY in parents:
        return same_share
    if name == WINDOW or EPSILON.fullmatch(name):
        return True
    values = (difference.anchor, difference.source)
    return all(isinstance(value, str) and SYNONYMS.get(value, value) in GELUS for value in values)
