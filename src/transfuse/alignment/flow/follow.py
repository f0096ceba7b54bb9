"""Carry a relative of a model along that transport maps aligned: a fine-tune goes where its base is."""

from dataclasses import replace

from transfuse.alignment.flow.stack import stack, unstack
from transfuse.alignment.interface import Alignment
from transfuse.alignment.match_store import LazyMaps
from transfuse.alignment.transform import transform_all
from transfuse.network.model import Network


def follow(alignment: Alignment, relative: Network) -> Alignment:
    """Return the alignment of a relative of an aligned source, by the maps of the source.

    Args:
        alignment: of the source, by transport maps.
        relative: a model of the same shape and basis as the source, such as a fine-tune of it.
    """
    carried = transform_all(alignment.spec, stack(alignment.spec, relative.tensors), LazyMaps(alignment.matches))
    return replace(alignment, carried=relative.materialize(unstack(carried)), candidates={})
