"""Carry a relative of an aligned model along: the same maps put a fine-tune of the model where the model is."""

from dataclasses import replace

from transfuse.alignment.exact.canonical_form import balance
from transfuse.alignment.interface import Alignment
from transfuse.alignment.transform import transform_all
from transfuse.network.model import Network
from transfuse.network.symmetry import fold
from transfuse.transport.solve import maps_of


def follow(alignment: Alignment, source: Network, relative: Network) -> Alignment:
    """Return the alignment of a relative of an aligned source, by the maps of the source.

    Norms of the relative are folded by its own gains, since the folded form does not depend on them. Everything else is
    the source's: the maps that balance its channels, and those that were found. So the difference between both models
    stays a difference.

    Args:
        alignment: of the source, by an exact method.
        relative: a model of the same shape and basis as the source, such as a fine-tune of it.
    """
    spec = alignment.spec
    balancing = balance(spec, fold(spec, source.tensors))
    found = maps_of(alignment.matches)
    canonical = transform_all(spec, fold(spec, relative.tensors), balancing)
    return replace(alignment, carried=relative.materialize(transform_all(spec, canonical, found)), candidates={})
