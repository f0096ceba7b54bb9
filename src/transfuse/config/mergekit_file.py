"""Read the models of a mergekit file, listed or in one slice of all layers, and the parameters of each and of all."""

from collections.abc import Mapping
from typing import Any, NoReturn

from transfuse.config.mergekit_format import ALL_PARAMETERS, OF_THE_FILE, PARAMETERS, SLICE_KEYS
from transfuse.config.mergekit_settings import Settings, Source
from transfuse.errors import ConfigError


class File:
    """A file of mergekit, with what its keys hold. Errors name the key, or its line in the file."""

    def __init__(self, values: Mapping[str, Any], labels: Mapping[str, str]) -> None:
        self.values = values
        self.labels = labels
        self.method = str(values.get("merge_method"))
        self.parameters = {"parameters": self._mapping(values.get("parameters"), "parameters")}
        self.base_model = values.get("base_model")

    def refuse(self, key: str, why: str) -> NoReturn:
        raise ConfigError(f"{self._label(key)}: {why}")

    def _label(self, key: str) -> str:
        return self.labels.get(key, key)

    def _parameter_label(self, name: str) -> str:
        """Return how a message names a parameter of models: where the file has it for all, or where it lists models."""
        shared = "parameters." + name
        listed = "models" if self.values.get("slices") is None else "slices"
        return self.labels[shared] if shared in self.labels else f"{self._label(listed)}: {name}"

    def _mapping(self, value: object, where: str) -> Mapping[str, Any]:
        if value is not None and not isinstance(value, Mapping):
            self.refuse(where, "should be a mapping of names to values")
        return value or {}

    def _name(self, value: object, where: str) -> str:
        if "+" in value if isinstance(value, str) else isinstance(value, Mapping) and value.get("lora"):
            self.refuse(
                where, f"{value}: write the folder of the adapter alone; transfuse finds the model it belongs to"
            )
        if not isinstance(value, str):
            self.refuse(where, "write the folder or the Hub name of the model, and nothing else")
        return value

    def _sources(self) -> tuple[list[Source], int | None]:
        """Return the models, and the number of their layers if slices name it."""
        slices = self.values.get("slices")
        if slices is None:
            return self._listed(self.values.get("models"), "models"), None
        if self.values.get("models") is not None:
            self.refuse("slices", "models are given too; keep one of both")
        if not isinstance(slices, list) or len(slices) != 1:
            self.refuse(
                "slices", "write models, with t or weight as a list of numbers, one for each layer, or one slice"
            )
        part = self._mapping(slices[0], "slices")
        for key in part:
            if key not in SLICE_KEYS:
                self.refuse("slices", f"{key} has no counterpart; known: {', '.join(SLICE_KEYS)}")
        if part.get("base_model") is not None:
            self.base_model = part["base_model"]
            self.labels = {**self.labels, "base_model": f"{self._label('slices')}: base_model"}
        self.parameters = {"slices": self._mapping(part.get("parameters"), "slices"), **self.parameters}
        for name in self.parameters["slices"]:
            self._check_known(f"{self._label('slices')}: {name}", name)
        sources = self._listed(part.get("sources"), "slices")
        ranges = [entry.get("layer_range") for entry in part["sources"]]
        first = ranges[0]
        whole = isinstance(first, list) and len(first) == 2 and first[0] == 0 and isinstance(first[1], int)
        if not whole or any(each != first for each in ranges):
            self.refuse("slices", "layer_range should be [0, LAYERS] for every model; write models instead of slices")
        return sources, first[1]

    def _listed(self, entries: object, key: str) -> list[Source]:
        if not isinstance(entries, list) or not entries:
            self.refuse(key, "should be a list of entries such as {model: NAME, parameters: {weight: 0.5}}")
        sources = []
        for number, entry in enumerate(entries, 1):
            where = f"{self._label(key)}: item {number}"
            known_keys = {"model", "parameters", *(["layer_range"] if key == "slices" else [])}
            if not isinstance(entry, Mapping) or not {"model"} <= entry.keys() <= known_keys:
                raise ConfigError(f"{where}: should be an entry such as {{model: NAME, parameters: {{weight: 0.5}}}}")
            model = self._name(entry["model"], where)
            settings: list[Settings] = [self._mapping(entry.get("parameters"), where), *self.parameters.values()]
            for name in settings[0]:
                self._check_known(f"{where}: {name}", name)
                if name in OF_THE_FILE:
                    raise ConfigError(f"{where}: {name} is one for all models; move it to the parameters of the file")
            sources.append(Source(model, settings, where))
        return sources

    def _check_known(self, where: str, name: str) -> None:
        if name in PARAMETERS[self.method]:
            return
        if name in ALL_PARAMETERS:
            raise ConfigError(f"{where} has no effect with {self.method}; leave it out")
        known = ", ".join(sorted(PARAMETERS[self.method]))
        raise ConfigError(f"{where} has no counterpart for {self.method}; known: {known}")

    def _scalar(self, name: str, kind: type, default: Any) -> Any:
        """Return a parameter that all models share. That of the slice comes first."""
        value = self._shared(name)[1].get(name, default)
        if kind is bool and value in (0, 1):
            return bool(value)
        if kind is bool or isinstance(value, bool) or not isinstance(value, kind):
            self._refuse_shared(name, f"should be one {'true or false' if kind is bool else 'number'}")
        return value

    def _shared(self, name: str) -> tuple[str, Settings]:
        """Return where a parameter that all models share is set, and the parameters there."""
        return next((each for each in self.parameters.items() if name in each[1]), ("parameters", {}))

    def _refuse_shared(self, name: str, why: str) -> NoReturn:
        where, _ = self._shared(name)
        self.refuse(
            "parameters." + name if where == "parameters" else where, why if where == "parameters" else f"{name}: {why}"
        )
