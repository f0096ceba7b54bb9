"""Read the parameters of a mergekit file, which a model, a slice and the file itself may set, the nearest first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transfuse.config.layer_values import EVERYTHING, parse_layer_value
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
