"""Read the models of a mergekit file, listed or in slices of their layers, and the parameters of each and of all."""

from collections.abc import Mapping
from typing import Any, NoReturn

from transfuse.config.mergekit_format import ALL_PARAMETERS, OF_THE_FILE, PARAMETERS, SLICE_KEYS
from transfuse.config.mergekit_settings import Settings, Slice, Source, joined
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
        if not isinstance(slices, list) or not slices:
            self.refuse("slices", "should be a list of entries such as {sources: [{model: NAME, layer_range: [0, 8]}]}")
        labels, of_the_file, base_model = self.labels, self.parameters, self.base_model
        parts: list[Slice] = []
        shared: dict[str, Any] = {}
        label = self._label("slices")
        for number, entry in enumerate(slices, 1):
            where = f"{label}, item {number}" if len(slices) > 1 else label
            self.labels, self.parameters, self.base_model = {**labels, "slices": where}, of_the_file, base_model
            parts.append(self._slice(entry, sum(part.layers for part in parts)))
            found = {name: self._shared(name)[1].get(name) for name in OF_THE_FILE}
            found["base_model"] = self.base_model
            for name, value in shared.items():
                if found[name] != value:
                    first = "missing" if value is None else value
                    self.refuse("slices", f"{name} should be {first}, as in the first slice")
            shared = found
            if parts[-1].models != parts[0].models:
                models = " and ".join(parts[0].models)
                self.refuse("slices", f"its models should be those of the first slice, {models}, in this order")
        self.labels = {**self.labels, "slices": label}
        return joined(parts), sum(part.layers for part in parts)

    def _slice(self, entry: object, start: int) -> Slice:
        """Return the models of a slice, whose first layer has this number, and let what it sets come first."""
        part = self._mapping(entry, "slices")
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
        whole = isinstance(first, list) and len(first) == 2 and all(isinstance(each, int) for each in first)
        if not whole or first[0] >= first[1] or any(each != first for each in ranges):
            self.refuse("slices", "layer_range should be [START, END] with END above START, alike for every model")
        if first[0] != start:
            before = ", where the slice before ends" if start else ""
            self.refuse("slices", f"layer_range should begin at {start}{before}; mergekit alone skips or stacks layers")
        return Slice(first[1] - first[0], sources)

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
