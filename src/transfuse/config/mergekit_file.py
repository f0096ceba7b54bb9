"""The models and the parameters in a configuration file of mergekit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from transfuse.config.layer_values import EVERYTHING, parse_layer_value
from transfuse.errors import ConfigError

PARAMETERS = {
    "linear": {"weight", "normalize"},
    "slerp": {"t"},
    "task_arithmetic": {"weight", "normalize", "lambda", "int8_mask"},
    "ties": {"weight", "density", "normalize", "lambda", "int8_mask", "rescale"},
    "dare_linear": {"weight", "density", "normalize", "lambda", "int8_mask", "rescale"},
    "dare_ties": {"weight", "density", "normalize", "lambda", "int8_mask", "rescale"},
}


@dataclass(frozen=True)
class Source:
    """A model of the file, with the settings that its parameters have, the nearest first."""

    model: str
    settings: Sequence[Mapping[str, Any]]
    where: str


class MergekitFile:
    """Hold a file of mergekit, and read its models and parameters.

    Attributes:
        values: of the file, as `config.yaml_file.read` returns them.
        labels: how a message names each of them.
    """

    def __init__(self, values: Mapping[str, Any], labels: Mapping[str, str]) -> None:
        self.values = values
        self.labels = labels
        self.method = str(values.get("merge_method"))
        self.parameters = self._mapping(values.get("parameters"), "parameters")

    def refuse(self, key: str, why: str) -> NoReturn:
        """Raise `ConfigError` for a key."""
        raise ConfigError(f"{self.label(key)}: {why}")

    def label(self, key: str) -> str:
        """Return how a message names a key."""
        return self.labels.get(key, key)

    def name(self, value: object, where: str) -> str:
        """Return the name of a model."""
        if not isinstance(value, str):
            self.refuse(where, "write the folder or the Hub name of the model, and nothing else")
        if "+" in value:
            self.refuse(
                where, f"{value}: write the folder of the adapter alone; transfuse finds the model it belongs to"
            )
        return value

    def sources(self) -> tuple[list[Source], int | None]:
        """Return the models, and the number of their layers if slices name it."""
        slices = self.values.get("slices")
        if slices is None:
            return self._listed(self.values.get("models"), "models", {}), None
        if not isinstance(slices, list) or len(slices) != 1:
            self.refuse(
                "slices", "write models, with a list of numbers as weight that changes over the layers, or one slice"
            )
        part = self._mapping(slices[0], "slices")
        sources = self._listed(part.get("sources"), "slices", self._mapping(part.get("parameters"), "slices"))
        ranges = [entry.get("layer_range") for entry in part["sources"]]
        first = ranges[0]
        whole = isinstance(first, list) and len(first) == 2 and first[0] == 0 and isinstance(first[1], int)
        if not whole or any(each != first for each in ranges):
            self.refuse("slices", "layer_range should be [0, LAYERS] for every model; write models instead of slices")
        return sources, first[1]

    def value(self, source: Source, name: str, default: float | None = None) -> Any:
        """Return a parameter of a model, as `config.layer_values` defines it."""
        entries: dict[str, Any] = {}
        for settings in source.settings:
            setting = settings.get(name)
            conditions = [setting] if isinstance(setting, Mapping) else setting
            if not (isinstance(conditions, list) and all(isinstance(each, Mapping) for each in conditions)):
                conditions = [] if setting is None else [{"value": setting}]
            for condition in conditions:
                entries.setdefault(str(condition.get("filter") or EVERYTHING), condition.get("value"))
            if EVERYTHING in entries:
                break
        if default is not None:
            entries.setdefault(EVERYTHING, default)
        if not entries:
            raise ConfigError(f"{source.where}: {name} is missing; add parameters: {{{name}: NUMBER}}")
        try:
            return parse_layer_value(entries[EVERYTHING] if [*entries] == [EVERYTHING] else entries)
        except ValueError as error:
            raise ConfigError(f"{source.where}: {name}: {error}, found {entries}") from error

    def scalar(self, name: str, kind: type, default: Any) -> Any:
        """Return a parameter that all models share."""
        value = self.parameters.get(name, default)
        if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
            self.refuse(f"parameters.{name}", f"should be one {'true or false' if kind is bool else 'number'}")
        return value

    def _mapping(self, value: object, where: str) -> Mapping[str, Any]:
        if value is not None and not isinstance(value, Mapping):
            self.refuse(where, "should be a mapping of names to values")
        return value or {}

    def _listed(self, entries: object, key: str, shared: Mapping[str, Any]) -> list[Source]:
        if not isinstance(entries, list) or not entries:
            self.refuse(key, "should be a list of entries such as {model: NAME, parameters: {weight: 0.5}}")
        sources = []
        for number, entry in enumerate(entries, 1):
            where = f"{self.label(key)}: item {number}"
            if not isinstance(entry, Mapping) or not {"model"} <= entry.keys() <= {
                "model",
                "parameters",
                "layer_range",
            }:
                raise ConfigError(f"{where}: should be an entry such as {{model: NAME, parameters: {{weight: 0.5}}}}")
            model = self.name(entry["model"], where)
            own = self._mapping(entry.get("parameters"), where)
            for name in (*own, *shared, *self.parameters):
                if name not in PARAMETERS[self.method]:
                    known = ", ".join(sorted(PARAMETERS[self.method]))
                    raise ConfigError(f"{where}: {name} has no counterpart for {self.method}; known: {known}")
            sources.append(Source(model, (own, shared, self.parameters), where))
        return sources
