"""Read the parameters of a mergekit file, which a model, a slice and the file itself may set, the nearest first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transfuse.config.layer_values import EVERYTHING, parse_layer_value, value_at
from transfuse.errors import ConfigError

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Source:
    """A model of the file, with the settings that its parameters have, the nearest first."""

    model: str
    settings: Sequence[Settings]
    where: str

    def value(self, name: str, default: float | None = None) -> Any:
        """Return a parameter of the model, as `config.layer_values` defines it.

        Raises:
            ConfigError: it is missing for some tensors, or no number.
        """
        entries: dict[str, Any] = {}
        for settings in self.settings:
            for part, value in self._conditions(name, settings.get(name)):
                entries.setdefault(part, value)
            if EVERYTHING in entries:
                break
        if default is not None:
            entries.setdefault(EVERYTHING, default)
        if not entries:
            raise ConfigError(f"{self.where}: {name} is missing; add parameters: {{{name}: NUMBER}}")
        if EVERYTHING not in entries:
            filters = f"only for names with {' or '.join(entries)}"
            raise ConfigError(
                f"{self.where}: {name} is given {filters}; add an entry without a filter: {{value: NUMBER}}"
            )
        try:
            return parse_layer_value(entries[EVERYTHING] if [*entries] == [EVERYTHING] else entries)
        except ValueError as error:
            raise ConfigError(f"{self.where}: {name}: {error}, found {entries}") from error

    def _conditions(self, name: str, setting: Any) -> list[tuple[str, Any]]:
        """Return the part of names and the value of each entry of a setting."""
        if setting is None:
            return []
        conditions = [setting] if isinstance(setting, Mapping) else setting
        if not isinstance(conditions, list) or not any(isinstance(each, Mapping) for each in conditions):
            return [(EVERYTHING, setting)]
        for each in conditions:
            if not isinstance(each, Mapping) or not {"value"} <= each.keys() <= {"value", "filter"}:
                raise ConfigError(
                    f"{self.where}: {name}: {each} should be an entry such as {{filter: mlp, value: 0.5}}"
                )
        return [(str(each.get("filter") or EVERYTHING), each["value"]) for each in conditions]


@dataclass(frozen=True)
class Slice:
    """Consecutive layers, and the models with the settings that they have there."""

    layers: int
    sources: Sequence[Source]

    @property
    def models(self) -> list[str]:
        return [source.model for source in self.sources]


@dataclass(frozen=True)
class SlicedSource(Source):
    """A model of several slices. Its gradients run over every slice anew, as in mergekit.

    Attributes:
        parts: the number of layers of every slice, and the model with its settings there.
    """

    parts: Sequence[tuple[int, Source]]

    def value(self, name: str, default: float | None = None) -> Any:
        """Return a parameter as `Source.value` does, with one number for every layer where it is not the same in all.

        Raises:
            ConfigError: as `Source.value`, or two slices have different filters.
        """
        values = [source.value(name, default) for _, source in self.parts]
        if isinstance(values[0], float) and all(value == values[0] for value in values):
            return values[0]
        entries = [value if isinstance(value, Mapping) else {EVERYTHING: value} for value in values]
        filters = max(entries, key=len)
        for (_, source), entry in zip(self.parts, entries, strict=True):
            if [*entry] not in ([*filters], [EVERYTHING]):
                listed = ", ".join(part for part in filters if part != EVERYTHING)
                raise ConfigError(f"{source.where}: {name}: write the same filters in every slice, such as {listed}")
        gradients = {
            part: tuple(
                number
                for (layers, _), entry in zip(self.parts, entries, strict=True)
                for number in _over_layers(entry.get(part, entry[EVERYTHING]), layers)
            )
            for part in filters
        }
        return gradients[EVERYTHING] if [*filters] == [EVERYTHING] else gradients


def joined(slices: Sequence[Slice]) -> list[Source]:
    """Return the models of slices that follow one another and have the same models."""
    if len(slices) == 1:
        return [*slices[0].sources]
    return [
        SlicedSource(
            source.model, source.settings, source.where, [(each.layers, each.sources[index]) for each in slices]
        )
        for index, source in enumerate(slices[0].sources)
    ]


def _over_layers(value: Any, layers: int) -> list[float]:
    """Return the number of every layer of a slice. The only layer has the last number of a gradient, as in mergekit."""
    numbers = (value_at(value, (), layer / (layers - 1) if layers > 1 else 1.0) for layer in range(layers))
    return [number for number in numbers if number is not None]
