"""The models that `evaluate` is given, and what prepares samples for each of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.base.progress import Progress
from transfuse.checkpoint.load import Model
from transfuse.errors import ConfigError

SIZES = ("num_labels", "vocab_size", "image_size", "num_channels")  # of inputs and outputs


@runtime_checkable
class Result(Protocol):
    """The result of a fusion, of a training or of shrinking: a model, and what prepares samples for it."""

    @property
    def model(self) -> PreTrainedModel: ...

    @property
    def prepared_by(self) -> Any: ...


Given: TypeAlias = Model | Result


@dataclass(frozen=True)
class Subject:
    """A model to measure.

    Attributes:
        name: its path, or "model 1" if it is loaded.
        source: its path, or the loaded model.
        prepared_by: a processor, or the path of one; None: a loaded model has none.
    """

    name: str
    source: Model
    prepared_by: Any

    @property
    def processor(self) -> tuple[Model, Any]:
        """Return what `model_processor` takes: the source, and a processor, the path of one, or None."""
        return self.source, self.prepared_by


def subjects(models: Given | Sequence[Given], processor: Any) -> list[Subject]:
    """Return the models to measure by name.

    Args:
        processor: prepares the samples of all models; None: each model's own.

    Raises:
        ConfigError: there are none, one is no model, or one is given twice.
    """
    if isinstance(models, Mapping):
        raise ConfigError("models: give a list of models, not a mapping; loaded ones are named model 1, model 2, ...")
    given = [models] if isinstance(models, str | Path | PreTrainedModel | Result) else list(models or ())
    if not given:
        raise ConfigError("models: none given; give the path of a checkpoint or a loaded transformers model")
    found = [_subject(number, source) for number, source in enumerate(given, 1)]
    names = [subject.name for subject in found]
    duplicate = next((name for name in names if names.count(name) > 1), None)
    if duplicate:
        raise ConfigError(f"{duplicate}: given twice; give it once")
    return found if processor is None else [replace(subject, prepared_by=processor) for subject in found]


def _subject(number: int, given: Given) -> Subject:
    if isinstance(given, str | Path):
        return Subject(str(given), given, given)
    if isinstance(given, PreTrainedModel):
        return Subject(f"model {number}", given, None)
    if isinstance(given, Result):
        return Subject(f"model {number}", given.model, given.prepared_by)
    raise ConfigError(f"{given!r:.80}: give the path of a checkpoint or a loaded transformers model")


def with_processors(found: Sequence[Subject], configs: Sequence[PreTrainedConfig], progress: Progress) -> list[Subject]:
    """Return the models; a loaded one gets the processor of the first other model of its kind and sizes that has one.

    Args:
        configs: the configuration of each model.
    """
    kinds = [(config.model_type, *(getattr(config, size, None) for size in SIZES)) for config in configs]
    lenders = {kind: subject for subject, kind in zip(found[::-1], kinds[::-1], strict=True) if subject.prepared_by}
    prepared = []
    for subject, kind in zip(found, kinds, strict=True):
        lender = lenders.get(kind)
        if subject.prepared_by is None and lender is not None:
            progress.warn(f"{subject.name}: has no processor; that of {lender.name} prepares its samples")
            subject = replace(subject, prepared_by=lender.prepared_by)
        prepared.append(subject)
    return prepared
