"""Read a configuration file of mergekit: what means the same here becomes options, and one line answers the rest.

The format is that of `mergekit-yaml`: a merge method, models or one slice of all their layers, a base model, and
parameters that are numbers, gradients over the layers, or lists of both with filters on the names of tensors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transfuse.config.layer_values import numbers
from transfuse.config.mergekit_file import PARAMETERS, MergekitFile, Source

METHODS = {
    "linear": "mean",
    "slerp": "slerp",
    "task_arithmetic": "task-arithmetic",
    "ties": "ties",
    "dare_linear": "dare-linear",
    "dare_ties": "dare-ties",
}
AVERAGED = {"task_arithmetic": False, "ties": True, "dare_linear": False, "dare_ties": False}  # normalize, by default
DROPS = {"dare_linear", "dare_ties"}  # methods that rescale what is kept
MARKS = {"merge_method", "base_model", "slices", "modules"}  # keys that only mergekit has
KEYS = ("merge_method", "base_model", "models", "slices", "parameters", "dtype", "out_dtype", "tokenizer_source")
INSTEAD = {
    "passthrough": "it stacks layers instead of merging models, which mergekit alone does",
    "model_stock": "write linear with the weights that you want, or give --data and a file without merge_method",
    "modules": "write models with the models to merge",
    "tokenizer": "leave it out if all tokenizers are the same, or else pass --vocab shared",
    "random_seed": "leave it out, and pass --seed instead",
    "name": "leave it out; the output folder names the model",
    "chat_template": "leave it out; the template of the first model is copied",
}


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
    file = MergekitFile(values, labels)
    for key in file.values:
        if key not in KEYS:
            file.refuse(key, INSTEAD.get(key, f"no such key of mergekit is known; known: {', '.join(KEYS)}"))
    if file.method not in METHODS:
        known = f"write one of {', '.join(METHODS)}"
        file.refuse("merge_method", f"{file.method} has no counterpart; {INSTEAD.get(file.method, known)}")
    sources, layers = file.sources()
    base = file.values.get("base_model")
    if base is not None:
        base = file.name(base, "base_model")
    chosen = {"merge": METHODS[file.method], **_dtype(file)}
    if file.method in AVERAGED:
        chosen |= _task_vectors(file, sources, base)
    elif file.method == "slerp":
        chosen |= _slerp(file, sources, base)
    else:
        chosen |= _linear(file, sources, base)
    _check_tokenizer(file, {*chosen["models"], base})
    places = {"merge": "merge_method", "base": "base_model", "task_scale": "parameters.lambda"}
    places |= {"weights": "parameters.t"} if file.method == "slerp" else {}
    labels = {name: file.label(places.get(name, name)) for name in chosen}
    return Translation(chosen, labels, layers)


def _linear(file: MergekitFile, sources: Sequence[Source], base: str | None) -> dict[str, Any]:
    if base is not None:
        if base not in [source.model for source in sources]:
            file.refuse("base_model", "linear has no use for it; leave it out, or add it to models with a weight")
        sources = sorted(sources, key=lambda source: source.model != base)  # its basis and tokenizer are kept
    weights = [file.value(source, "weight") for source in sources]
    plain = all(isinstance(weight, float) for weight in weights)
    if not file.scalar("normalize", bool, True) and not (plain and abs(sum(weights) - 1) < 1e-6):
        file.refuse("parameters.normalize", "weights of linear are normalized here; write true")
    return {"models": [source.model for source in sources], "weights": weights}


def _slerp(file: MergekitFile, sources: Sequence[Source], base: str | None) -> dict[str, Any]:
    others = [source for source in sources if source.model != base]
    if base is None or len(others) != 1:
        file.refuse("merge_method", "slerp needs two models, one of which is base_model, where t is 0")
    position = file.value(others[0], "t")
    if max(numbers(position)) > 1:
        file.refuse("parameters.t", "should be from 0 to 1")
    return {"models": [base, others[0].model], "weights": [_complement(position), position]}


def _task_vectors(file: MergekitFile, sources: Sequence[Source], base: str | None) -> dict[str, Any]:
    if base is None:
        file.refuse("merge_method", f"{file.method} needs base_model, which all models were fine-tuned from")
    sources = [source for source in sources if source.model != base]
    rescales = file.method in DROPS
    if file.scalar("rescale", bool, rescales) is not rescales:
        what = f"what is kept is {'always' if rescales else 'never'} rescaled"
        file.refuse("parameters.rescale", f"{what} with {file.method}; leave it out")
    averaged = file.scalar("normalize", bool, AVERAGED[file.method])
    chosen = {
        "models": [source.model for source in sources],
        "base": base,
        "weights": [file.value(source, "weight") for source in sources],
        "task_scale": file.scalar("lambda", int | float, 1.0),  # type: ignore[arg-type]
        "task_weights": "mean" if averaged else "sum",
    }
    if "density" in PARAMETERS[file.method]:
        chosen["density"] = [file.value(source, "density", 1.0) for source in sources]
    return chosen


def _dtype(file: MergekitFile) -> dict[str, Any]:
    key = "out_dtype" if file.values.get("out_dtype") is not None else "dtype"
    return {} if file.values.get(key) is None else {"dtype": file.values[key]}


def _check_tokenizer(file: MergekitFile, models: set[Any]) -> None:
    """Refuse a tokenizer of another model. All models that are merged have the same one, or it is an error."""
    source = file.values.get("tokenizer_source")
    if source not in (None, "base", "union", *models):
        file.refuse("tokenizer_source", "write base or union, or one of the models; all must have the same tokens")


def _complement(value: Any) -> Any:
    """Return one minus every number of a value."""
    if isinstance(value, Mapping):
        return {name: _complement(entry) for name, entry in value.items()}
    return tuple(1 - number for number in value) if isinstance(value, tuple) else 1 - value
