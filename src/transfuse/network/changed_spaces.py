"""The spaces that differ between two sizes of one architecture."""

from transfuse.errors import SpecError
from transfuse.network.spec import Spec
from transfuse.network.symmetry import symmetric

RESIZED = ("group", "pair", "frequency")  # last parts of the names of fixed spaces that other sizes may change


def changed_sizes(old: Spec, new: Spec) -> dict[str, int]:
    """Return the new units of every space whose size differs, by the name of the space.

    Raises:
        SpecError: a space with a fixed meaning differs, or the new model has other spaces.
    """
    sizes, new_sizes = (symmetric(spec).all_spaces() for spec in (old, new))
    if sizes.keys() != new_sizes.keys():
        name = next(iter(sizes.keys() ^ new_sizes.keys()))
        raise SpecError(f"{old.family}: {name} exists at one of the sizes only; choose other sizes")
    changed = {name: other.units for name, other in new_sizes.items() if other.units != sizes[name].units}
    for name in changed:
        space = sizes[name]
        if not space.free and name.rpartition(".")[2] not in RESIZED:
            raise SpecError(f"{old.family}: {name} has {space.units} units with a fixed meaning; choose other sizes")
    return changed
