"""Maps between the units of two models as they are saved, for what was made for one of them and should fit the other.

An alignment maps models in canonical form. Here its maps are composed with those that bring both models into that form,
so that they take what one model computes to what the other computes. Probes, steering vectors and sparse autoencoders
of the source can then be used with the anchor.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from transfuse.alignment.exact.canonical_form import balance
from transfuse.alignment.interface import Alignment
from transfuse.alignment.transform import transform_tensor
from transfuse.base.counted import counted_names
from transfuse.base.folders import expanded, given_path
from transfuse.base.owners import by_owner
from transfuse.checkpoint.writing.output import atomic_file
from transfuse.errors import CheckpointError, ConfigError
from transfuse.network.model import Network
from transfuse.network.operations import Axes
from transfuse.network.space import Group, Space
from transfuse.network.symmetry import fold
from transfuse.transport.maps import Map, Matrix, Permutation, SignedPermutation
from transfuse.transport.solve import maps_of

KIND = "transfuse maps"
FORMAT = f"{KIND} 1"
STREAM = "stream"  # the space of the residual stream; with several streams, the first


@dataclass(frozen=True)
class ModelMaps:
    """Hold the maps from the units of a source to those of an anchor, by the name of the space.

    Attributes:
        maps: one map per space, such as `stream`. A map of channels within heads has a leading axis over the heads of
            the anchor.
        facts: names of both models, what units were matched on, and the group of every space.
    """

    maps: Mapping[str, Map]
    facts: Mapping[str, Any]

    def __repr__(self) -> str:
        """Return both models and the first spaces, in one line."""
        models = f"from {self.facts.get('source', 'the source')} to {self.facts.get('anchor', 'the anchor')}"
        return f"ModelMaps {models}: {counted_names(list(self.maps), 'space')}"

    def states(self, values: Float[Tensor, "*samples source"], space: str = STREAM) -> Float[Tensor, "*samples target"]:
        """Map what the source writes: hidden states, steering vectors, directions of a decoder.

        Args:
            values: vectors over the units of the source, in the last axis.
            space: the name of the space that the units belong to. It must not lie within another.

        Raises:
            ConfigError: there is no such space, the sizes differ, or `values` is not a floating-point tensor.
        """
        return self._mapped(values, space, writes=True)

    def readers(self, weights: Float[Tensor, "*rows source"], space: str = STREAM) -> Float[Tensor, "*rows target"]:
        """Map what reads states of the source: weights of a probe, or of the encoder of a sparse autoencoder.

        On a mapped state, the mapped weights give what the given weights give on the given state.

        Args and Raises: as for `states`.
        """
        return self._mapped(weights, space, writes=False)

    def save(self, path: str | Path) -> Path:
        """Write the maps as a safetensors file, complete or not at all.

        A permutation has the tensor `SPACE.index`, and `SPACE.sign` if it has signs: unit j of the anchor is unit
        `index[j]` of the source. Any other map has `SPACE.forward` for what writes and `SPACE.backward` for what reads,
        both [source, target].

        Raises:
            ConfigError: `path` is not a path.
            OutputError: the file cannot be written.
        """
        target = _expanded(path)
        tensors = {
            f"{name}.{part}": values.contiguous().cpu().clone()  # safetensors stores no tensor twice
            for name, map_ in self.maps.items()
            for part, values in map_.tensors().items()
        }
        metadata = {"format": FORMAT, "facts": json.dumps(self.facts)}
        with atomic_file(target) as partial:
            save_file(tensors, partial, metadata)
            partial.chmod(target.absolute().parent.stat().st_mode & 0o666)  # safetensors makes its files private
        return target

    def _mapped(self, values: Float[Tensor, "*rows source"], space: str, writes: bool) -> Float[Tensor, "*rows target"]:
        """Map what the source writes, or what reads its states, and rescale single units."""
        map_ = self._map(space, values)
        rows = values.reshape(values.shape[:-1].numel(), values.shape[-1])
        mapped = map_.push(rows) if writes else map_.pull(rows)
        for scale in self._scales(space):
            mapped = mapped * (scale.forward if writes else scale.backward).flatten().to(mapped)
        return mapped.reshape(*values.shape[:-1], mapped.shape[-1])

    def _scales(self, space: str) -> list[Matrix]:
        """Return the factors of single units of a space, which gated hidden units have, in the order of the anchor."""
        within = self.facts.get("within", {})
        return [
            map_
            for name, map_ in self.maps.items()
            if isinstance(map_, Matrix) and map_.units == (1, 1) and list(within.get(name, ())) == [space]
        ]

    def _map(self, space: str, values: Tensor) -> Map:
        if space not in self.maps:
            raise ConfigError(f"space: there is no {space!r} here; known: {', '.join(self.maps)}")
        if not isinstance(values, Tensor):
            raise ConfigError(f"{space}: the values are not a tensor; give torch.as_tensor(values)")
        if not values.is_floating_point():  # a map in the type of integers would be cut down to zeros
            raise ConfigError(
                f"{space}: the values are {values.dtype}, not floating-point numbers; give values.float()"
            )
        map_ = self.maps[space]
        if map_.parent_axes:
            raise ConfigError(f"space: {space} lies within another; use the map of each unit in maps[{space!r}]")
        if not values.ndim:
            raise ConfigError(f"{space}: the values are a single number; give {map_.units[0]}, one for each unit")
        if values.shape[-1] != map_.units[0]:
            raise ConfigError(
                f"{space}: the values have {values.shape[-1]} entries, but the source has {map_.units[0]} units"
            )
        return map_


def load_maps(path: str | Path) -> ModelMaps:
    """Read maps that `ModelMaps.save` wrote.

    Raises:
        CheckpointError: the file cannot be read, or holds something else.
        ConfigError: `path` is not a path.
    """
    source = _expanded(path)
    if source.is_dir():
        raise CheckpointError(f"{path or '.'}: is a folder; give the safetensors file of maps")
    try:
        with safe_open(source, "pt") as file:
            metadata = file.metadata() or {}
            found = metadata.get("format", "")
            if found.startswith(KIND) and found != FORMAT:
                raise CheckpointError(f"{path}: a newer version of transfuse wrote it ({found}); install that version")
            if found != FORMAT:
                raise CheckpointError(f"{path}: holds no maps; write them with transfuse fuse --maps FILE")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read as safetensors ({error})") from error
    try:
        maps = {name: _map_of(parts) for name, parts in by_owner(tensors, ".").items()}
        return ModelMaps(maps, json.loads(metadata["facts"]))
    except (KeyError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: its maps are incomplete; write them again") from error


def model_maps(alignment: Alignment, anchor: Network, source: Network, facts: Mapping[str, Any]) -> ModelMaps:
    """Return the maps from a source to an anchor, both as they are saved.

    Args:
        alignment: of the source to the anchor, by the exact symmetries.
        facts: what is known beside the groups of the spaces.
    """
    spec = alignment.spec
    to_canonical, from_canonical = (balance(spec, fold(spec, model.tensors)) for model in (source, anchor))
    found = maps_of(alignment.matches)
    spaces = {name: space for name, space in spec.spaces().items() if name in found}
    maps = {
        name: _composed(space, to_canonical.get(name), found, from_canonical.get(name))
        for name, space in spaces.items()
    }
    groups = {name: str(space.group) for name, space in spaces.items()}
    within = {name: [outer.name for outer in space.ancestors()] for name, space in spaces.items()}
    return ModelMaps(maps, {**facts, "groups": groups, "within": within})


def _composed(space: Space, first: Matrix | None, found: Mapping[str, Map], last: Matrix | None) -> Map:
    """Return the map of a space between models as they are saved.

    Args:
        first: the map to the canonical form of the source, if it is not the identity.
        found: the maps between canonical forms.
        last: the map to the canonical form of the anchor.
    """
    if first is None or last is None:
        return found[space.name]
    rows = Space(f"rows of {space.name}", space.units, Group.FIXED)
    writes: Axes = (*space.ancestors(), rows, space)
    reads: Axes = (*space.ancestors(), rows, ~space)
    forward = transform_tensor(first.forward, writes, found) @ last.backward.transpose(-1, -2)
    backward = transform_tensor(first.backward, reads, found) @ last.forward.transpose(-1, -2)
    return Matrix(forward, backward)


def _expanded(path: str | PathLike[str]) -> Path:
    """Return a path with the home folder in place of its sign."""
    return expanded(given_path(path, of="a safetensors file"))


def _map_of(parts: Mapping[str, Tensor]) -> Map:
    """Return the map that some tensors make."""
    if "sign" in parts:
        return SignedPermutation(parts["index"], parts["sign"])
    return Permutation(parts["index"]) if "index" in parts else Matrix(parts["forward"], parts["backward"])
