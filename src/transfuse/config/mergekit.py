"""Read a configuration file of mergekit: what means the same here becomes options, and one line answers the rest.

The format is that of `mergekit-yaml`: a merge method, models or one slice of all their layers, a base model, and
parameters that are numbers, gradients over the layers, or lists of both with filters on the names of tensors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transfuse.config.layer_values import numbers
from transfuse.config.literals import method_traits
from transfuse.config.mergekit_file import File
from transfuse.config.mergekit_format import ALL_PARAMETERS, AVERAGED, DROPS, INSTEAD, KEYS, MARKS, METHODS
from transfuse.config.mergekit_settings import Source
from transfuse.errors import ConfigError


@dataclass(frozen=True)
class Translation:
    """The options that a file of mergekit stands for.

    Attributes:
        values: options of a job by name.
        labels: how a message names each of them.
        layers: the number of layers that every model has according to `layer_range`; None: the file does not say.
        base_tokenizer: how a message names the key that asks for the tokenizer of the base of task vectors; None: none.
    """

    values: dict[str, Any]
    labels: dict[str, str]
    layers: int | None
    base_tokenizer: str | None = None


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
    return _Translator(values, labels).translate()


class _Translator(File):
    def translate(self) -> Translation:
        missing = self.values.get("merge_method") is None
        known = f"write one of {', '.join(METHODS)}"
        if not missing and self.method not in METHODS:
            self.refuse("merge_method", f"{self.method} has no counterpart; {INSTEAD.get(self.method, known)}")
        for key, value in self.values.items():
            if key in ALL_PARAMETERS:
                self.refuse(key, "it has an effect only among parameters; move it there, or leave it out")
            if key not in KEYS and not (key in INSTEAD and value is None):
                self.refuse(key, INSTEAD.get(key, f"no such key of mergekit is known; known: {', '.join(KEYS)}"))
        if missing:
            self.refuse("merge_method", f"it is missing; {known}")
        for name in self.parameters["parameters"]:
            self._check_known(self._label("parameters." + name), name)
        sources, layers = self._sources()
        base = None if self.base_model is None else self._name(self.base_model, "base_model")
        dtype = "dtype" if self.values.get("out_dtype") is None else "out_dtype"
        alike = {"seed": "random_seed", "dtype": dtype}
        chosen = {name: self.values[key] for name, key in alike.items() if self.values.get(key) is not None}
        chosen["merge"] = METHODS[self.method]
        if isinstance(chosen.get("dtype"), str):
            chosen["dtype"] = chosen["dtype"].removeprefix("torch.")
        if method_traits(METHODS[self.method]).needs_base:
            chosen |= self._task_vectors(sources, base)
        elif self.method == "slerp":
            chosen |= self._slerp(sources, base)
        elif self.method == "nuslerp":
            chosen |= self._nuslerp(sources, base)
        else:
            chosen |= self._linear(sources, base)
        key, named = self._tokenizer({*chosen["models"], base})
        named = base if named == "base" else named
        base_tokenizer = self._label(key) if named is not None and named == chosen.get("base") else None
        chosen |= self._in_order(chosen, named)
        if self.values.get("chat_template") is not None:
            self.refuse("chat_template", f"leave it out; the template is that of {chosen['models'][0]}")
        places = alike | {"merge": "merge_method", "base": "base_model", "task_scale": "parameters.lambda"}
        places["task_weights"] = "parameters.normalize"
        labels = {name: self._label(places.get(name, name)) for name in chosen}
        labels["weights"] = self._parameter_label("t" if self.method == "slerp" else "weight")
        labels["density"] = self._parameter_label("density")
        summed = chosen.get("task_weights") == "sum"
        if not summed and any(number < 0 for weight in chosen["weights"] for number in numbers(weight)):
            advice = "write normalize: false in parameters" if base else "write task_arithmetic, with base_model"
            raise ConfigError(f"{labels['weights']}: negative ones need task vectors that are summed; {advice}")
        return Translation(chosen, labels, layers, base_tokenizer)

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

    def _nuslerp(self, sources: Sequence[Source], base: str | None) -> dict[str, Any]:
        if base is not None or len(sources) != 2:
            self.refuse(
                "merge_method", "nuslerp needs two models and no base_model here; write these, or task_arithmetic"
            )
        if not self._scalar("nuslerp_flatten", bool, True):
            self._refuse_shared("nuslerp_flatten", "a tensor has one angle here; leave it out")
        return {"models": [each.model for each in sources], "weights": [each.value("weight") for each in sources]}

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

    def _in_order(self, chosen: Mapping[str, Any], named: str | None) -> dict[str, Any]:
        """Return the models, and what each has, with the model first whose tokenizer the result should have."""
        models = chosen["models"]
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
