"""The models that `evaluate` is given, and what prepares samples for each of them."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.base.folders import expanded
from transfuse.base.progress import Progress
from transfuse.checkpoint.reading.given_models import check_given, wrapper_advice
from transfuse.checkpoint.reading.load import Model
from transfuse.data.processors import check_processor
from transfuse.errors import ConfigError

SIZES = ("num_labels", "vocab_size", "image_size", "num_channels")  # of inputs and outputs


@runtime_checkable
class HasModel(Protocol):
    """The result of a fusion, of a training or of shrinking: a model, and what prepares samples for it."""

    @property
    def model(self) -> PreTrainedModel: ...

    @property
    def prepared_by(self) -> Any: ...


Given: TypeAlias = Model | HasModel


@dataclass(frozen=True)
class Subject:
    """A model to measure.

    Attributes:
        name: its path, or "model 1" if it is loaded.
        source: its path, or the loaded model.
        processor: prepares its samples: a processor, or the path of one; None: a loaded model has none.
    """

    name: str
    source: Model
    processor: Any


def differing_size(first: PreTrainedConfig, other: PreTrainedConfig) -> tuple[str, Any, Any] | None:
    """Return a size of inputs or outputs in which two models differ, and both values; None if they differ in none."""
    for name in SIZES:
        own, others = (getattr(config, name, None) for config in (first, other))
        if own != others:
            return name, own, others
    return None


def subjects(models: Given | Sequence[Given], processor: Any) -> list[Subject]:
    """Return the models to measure by name.

    Args:
        processor: prepares the samples of all models; None: each model's own.

    Raises:
        ConfigError: there are none, one is no model, or one is given twice; or the processor is none.
    """
    if isinstance(models, Mapping):
        raise ConfigError("models: give a list of models, not a mapping; loaded ones are named model 1, model 2, ...")
    is_one = isinstance(models, str | Path | nn.Module | HasModel) or not isinstance(models, Iterable | None)
    several: Any = () if is_one else models or ()
    given = [models] if is_one else list(several)
    if not given:
        raise ConfigError("models: none given; give the path of a checkpoint or a loaded transformers model")
    found = [_subject(number, source) for number, source in enumerate(given, 1)]
    _check_all_differ(found)
    check_processor(processor)
    return found if processor is None else [replace(subject, processor=processor) for subject in found]


def _subject(number: int, given: Given) -> Subject:
    if isinstance(given, str | Path):
        return Subject(str(given), given, given)
    if isinstance(given, PreTrainedModel):
        check_given([given], [f"model {number}"])
        return Subject(f"model {number}", given, None)
    if isinstance(given, HasModel):
        return Subject(f"model {number}", given.model, given.prepared_by)
    shown = f"a {type(given).__name__}" if isinstance(given, nn.Module) else f"{given!r:.80}"
    raise ConfigError(f"{shown}: give the path of a checkpoint or a loaded transformers model{wrapper_advice(given)}")


def _check_all_differ(found: Sequence[Subject]) -> None:
    """Raise `ConfigError` if a model is given twice, by one path or by two paths of the same folder."""
    names: dict[str, str] = {}
    for subject in found:
        place = os.path.realpath(expanded(subject.name)) if _is_here(subject.source) else subject.name
        if place in names:
            too = "" if names[place] == subject.name else f", as {names[place]} too"
            raise ConfigError(f"{subject.name}: given twice{too}; give it once")
        names[place] = subject.name


def _is_here(source: Model) -> bool:
    """Return whether a model is named by a path on this machine; other names are on the Hub."""
    return isinstance(source, str | Path) and expanded(source).exists()


def with_processors(found: Sequence[Subject], configs: Sequence[PreTrainedConfig], progress: Progress) -> list[Subject]:
    """Return the models; a loaded one gets the processor of the first other model of its kind and sizes that has one.

    Args:
        configs: the configuration of each model.
    """
    kinds = [str((config.model_type, *(getattr(config, size, None) for size in SIZES))) for config in configs]
    lenders = {kind: subject for subject, kind in zip(found[::-1], kinds[::-1], strict=True) if subject.processor}
    prepared = []
    for subject, kind in zip(found, kinds, strict=True):
        lender = lenders.get(kind)
        if subject.processor is None and lender is not None:
            progress.warn(f"{subject.name}: has no processor; that of {lender.name} prepares its samples")
            subject = replace(subject, processor=lender.processor)
        prepared.append(subject)
    return prepared
