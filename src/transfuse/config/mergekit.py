"""Read a configuration file of mergekit: what means the same here becomes options, and one line answers the rest.

The format is that of `mergekit-yaml`: a merge method, models or one slice of all their layers, a base model, and
parameters that are numbers, gradients over the layers, or lists of both with filters on the names of tensors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from transfuse.config.layer_values import numbers
from transfuse.config.literals import method_traits
from transfuse.config.mergekit_format import (
    AVERAGED,
    DROPS,
    INSTEAD,
    KEYS,
    MARKS,
    METHODS,
    OF_THE_FILE,
    PARAMETERS,
    SLICE_KEYS,
)
from transfuse.config.mergekit_settings import Settings, Source
from transfuse.errors import ConfigError


@dataclass(frozen=True)
class Translation:
    """The options that a file of mergekit stands for.

    Attributes:
        values: options of a job by name.
        labels: how a message names each of them.
        layers: the number of layers that every model has according to `layer_range`; None: the file does not say.
    """

    values: dict[str, Any]
    labels: dict[str, str]
    layers: int | None


def is_mergekit(values: Mapping[str, Any]) -> bool:
    """Return whether the values of a YAML file are those of a file of mergekit."""
    models = values.get("models")
    return bool(MARKS & values.keys()) or (isinstance(models, list) and any(isinstance(each, dict) for each in models))


def translate(values: Mapping[str, Any], labels: Mapping[str, str]) -> Translation:
    """Return the options that a file of mergekit stands for.

    Args:
        values: of the file, as `config.yaml_file.read` returns them.
        labels: how a message names each of them.

    Raises:
        ConfigError: a key or a value has no counterpart; the message names it, and what to write instead.
    """
    return _File(values, labels).translate()


class _File:
    def __init__(self, values: Mapping[str, Any], labels: Mapping[str, str]) -> None:
        self.values = values
        self.labels = labels
        self.method = str(values.get("merge_method"))
        self.parameters = {"parameters": self._mapping(values.get("parameters"), "parameters")}
        self.base_model = values.get("base_model")

    def translate(self) -> Translation:
        for key, value in self.values.items():
            if key not in KEYS and not (key in INSTEAD and value is None):
                self.refuse(key, INSTEAD.get(key, f"no such key of mergekit is known; known: {', '.join(KEYS)}"))
        if self.method not in METHODS:
            known = f"write one of {', '.join(METHODS)}"
            self.refuse("merge_method", f"{self.method} has no counterpart; {INSTEAD.get(self.method, known)}")
        sources, layers = self._sources()
        base = None if self.base_model is None else self._name(self.base_model, "base_model")
        chosen = {"merge": METHODS[self.method], **self._dtype()}
        if method_traits(METHODS[self.method]).needs_base:
            chosen |= self._task_vectors(sources, base)
        elif self.method == "slerp":
            chosen |= self._slerp(sources, base)
        else:
            chosen |= self._linear(sources, base)
        chosen |= self._in_order(chosen, base)
        if self.values.get("chat_template") is not None:
            self.refuse("chat_template", f"leave it out; the template is that of {chosen['models'][0]}")
        places = {"merge": "merge_method", "base": "base_model", "task_scale": "parameters.lambda"}
        places |= {"weights": "parameters.t"} if self.method == "slerp" else {}
        labels = {name: self._label(places.get(name, name)) for name in chosen}
        return Translation(chosen, labels, layers)

    def refuse(self, key: str, why: str) -> NoReturn:
        raise ConfigError(f"{self._label(key)}: {why}")

    def _label(self, key: str) -> str:
        return self.labels.get(key, key)

    def _mapping(self, value: object, where: str) -> Mapping[str, Any]:
        if value is not None and not isinstance(value, Mapping):
            self.refuse(where, "should be a mapping of names to values")
        return value or {}

    def _name(self, value: object, where: str) -> str:
        if not isinstance(value, str):
            self.refuse(where, "write the folder or the Hub name of the model, and nothing else")
        if "+" in value:
            self.refuse(
                where, f"{value}: write the folder of the adapter alone; transfuse finds the model it belongs to"
            )
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
                "slices", "write models, with a list of numbers as weight that changes over the layers, or one slice"
            )
        part = self._mapping(slices[0], "slices")
        for key in part:
            if key not in SLICE_KEYS:
                self.refuse("slices", f"{key} has no counterpart; known: {', '.join(SLICE_KEYS)}")
        if part.get("base_model") is not None:
            self.base_model = part["base_model"]
            self.labels = {**self.labels, "base_model": f"{self._label('slices')}: base_model"}
        self.parameters = {"slices": self._mapping(part.get("parameters"), "slices"), **self.parameters}
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
            for name in (name for each in settings for name in each):
                if name not in PARAMETERS[self.method]:
                    known = ", ".join(sorted(PARAMETERS[self.method]))
                    raise ConfigError(f"{where}: {name} has no counterpart for {self.method}; known: {known}")
            for name in settings[0]:
                if name in OF_THE_FILE:
                    raise ConfigError(f"{where}: {name} is one for all models; move it to the parameters of the file")
            sources.append(Source(model, settings, where))
        return sources

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

    def _linear(self, sources: Sequence[Source], base: str | None) -> dict[str, Any]:
        if base is not None:
            if base not in [source.model for source in sources]:
                self.refuse("base_model", "linear has no use for it; leave it out, or add it to models with a weight")
            sources = sorted(sources, key=lambda source: source.model != base)  # its basis and tokenizer are kept
        weights = [source.value("weight") for source in sources]
        plain = all(isinstance(weight, float) for weight in weights)
        if not self._scalar("normalize", bool, True) and not (plain and abs(sum(weights) - 1) < 1e-6):
            self._refuse_shared("normalize", "weights of linear are normalized here; write true")
        return {"models": [source.model for source in sources], "weights": weights}

    def _slerp(self, sources: Sequence[Source], base: str | None) -> dict[str, Any]:
        others = [source for source in sources if source.model != base]
        if base is None or len(others) != 1:
            self.refuse("merge_method", "slerp needs two models, one of which is base_model, where t is 0")
        position = others[0].value("t")
        if not all(0 <= share <= 1 for share in numbers(position)):
            self._refuse_shared("t", "should be from 0 to 1")
        return {"models": [base, others[0].model], "weights": [_complement(position), position]}

    def _task_vectors(self, sources: Sequence[Source], base: str | None) -> dict[str, Any]:
        if base is None:
            self.refuse("merge_method", f"{self.method} needs base_model, which all models were fine-tuned from")
        sources = [source for source in sources if source.model != base]
        rescales = self.method in DROPS
        if self._scalar("rescale", bool, rescales) is not rescales:
            what = f"what is kept is {'always' if rescales else 'never'} rescaled"
            self._refuse_shared("rescale", f"{what} with {self.method}; leave it out")
        averaged = self._scalar("normalize", bool, self.method in AVERAGED)
        scale = self._scalar("lambda", int | float, 1.0)  # type: ignore[arg-type]
        if scale < 0:
            self._refuse_shared("lambda", "should not be negative; write negative weights instead")
        chosen = {
            "models": [source.model for source in sources],
            "base": base,
            "weights": [source.value("weight") for source in sources],
            "task_scale": scale,
            "task_weights": "mean" if averaged else "sum",
        }
        if self.method != "task_arithmetic":
            chosen["density"] = [source.value("density", 1.0) for source in sources]
        return chosen

    def _dtype(self) -> dict[str, Any]:
        key = "out_dtype" if self.values.get("out_dtype") is not None else "dtype"
        return {} if self.values.get(key) is None else {"dtype": self.values[key]}

    def _in_order(self, chosen: Mapping[str, Any], base: str | None) -> dict[str, Any]:
        """Return the models, and what each has, with the model first whose tokenizer the result should have."""
        models = chosen["models"]
        key, named = self._tokenizer({*models, base})
        if named == "base":
            named = base
        if named is not None and named == chosen.get("base"):
            whose = f"the tokenizer of the result is that of {models[0]}; leave it out, or name one of the models"
            self.refuse(key, f"{whose} that are merged into {base}")
        order = sorted(range(len(models)), key=lambda number: models[number] != named)
        each = ("models", "weights", "density")
        return {name: [chosen[name][number] for number in order] for name in each if name in chosen}

    def _tokenizer(self, models: set[Any]) -> tuple[str, str | None]:
        """Return whose tokenizer the result should have, and the key that says so. All have the same tokens."""
        tokenizer = self._mapping(self.values.get("tokenizer"), "tokenizer")
        for key in tokenizer:
            if key != "source":
                self.refuse("tokenizer", f"{key} has no counterpart; leave it out, because all have the same tokens")
        sources = {"tokenizer_source": self.values.get("tokenizer_source"), "tokenizer": tokenizer.get("source")}
        for key, source in sources.items():
            if not isinstance(source, str | None) or source not in (None, "base", "union", *models):
                self.refuse(key, "write base or union, or one of the models; all must have the same tokens")
        return next((each for each in sources.items() if each[1] is not None), ("tokenizer_source", None))


def _complement(value: Any) -> Any:
    """Return one minus every number of a value."""
    if isinstance(value, Mapping):
        return {name: _complement(entry) for name, entry in value.items()}
    return tuple(1 - number for number in value) if isinstance(value, tuple) else 1 - value
