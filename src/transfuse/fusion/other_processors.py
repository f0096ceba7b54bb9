"""Models whose own processor prepares samples otherwise than the anchor's, which prepares those of a fusion."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from transfuse.base.progress import Progress
from transfuse.checkpoint.reading.load import Model, local_directory
from transfuse.config.options import Options
from transfuse.data.processor_settings import TOKENS, differing_settings, template_settings
from transfuse.data.samples import Samples
from transfuse.data.tasks import Task, task
from transfuse.data.text.messages import holds_messages
from transfuse.errors import CheckpointError

SIZES = ("crop_size", "size")  # settings that follow the size of the images


@dataclass(frozen=True)
class OtherProcessor:
    """Hold how the processor of a model differs from that of the anchor.

    Attributes:
        model: the path of the model.
        processor: what prepares its samples: image processor or tokenizer.
        settings: the names of the settings that differ.
    """

    model: str
    processor: str
    settings: tuple[str, ...]


def warned_of_processors(
    models: Sequence[Model | None],
    anchor: PreTrainedModel,
    options: Options,
    progress: Progress,
    processor: Any = None,
    data: Any = None,
) -> tuple[OtherProcessor, ...]:
    """Return how the processors of models differ from that of the anchor, and warn of each that does.

    A loaded model has no processor of its own. Sizes of images and vocabularies that the options adapt to the anchor's
    are not compared.

    Args:
        models: the models as they were given, the anchor first; None, or a loaded one, has no processor to compare.
        anchor: the anchor, whose tensors may be empty.
        processor: prepares all samples, because the user chose it, so that nothing is compared; None: the anchor's.
        data: the samples. Chat templates are compared if these are conversations.
    """
    if processor is not None:
        return ()
    kind = task(type(anchor).__name__)
    talks = isinstance(data, Samples) and data.text is not None and holds_messages(data.dataset.features[data.text])
    first, *others = (None if model is None else _settings(kind, model, talks) for model in models)
    if first is None:
        return ()
    found = []
    for model, own in zip(models[1:], others, strict=True):
        names = [] if own is None else _unexpected(differing_settings(first, own), options)
        if names:
            found.append(OtherProcessor(str(model), kind.processor, tuple(names)))
            progress.warn(
                f"{model}: the settings of its {kind.processor} ({', '.join(names)}) differ from those of {models[0]},"
                " which prepares all samples; transfuse eval measures each model with its own"
            )
    return tuple(found)


def _settings(kind: Task, model: Model, talks: bool) -> dict[str, Any] | None:
    """Return the settings of the processor that was saved with a model; None if there is none.

    Args:
        talks: whether the samples are conversations.
    """
    if isinstance(model, str | Path):
        with suppress(CheckpointError):
            processor = kind.load(local_directory(model, "allow"))
            return {**kind.settings(processor), **(template_settings(processor) if talks else {})}
    return None


def _unexpected(names: Sequence[str], options: Options) -> list[str]:
    """Return the settings that differ although the options do not adapt the models in them."""
    expected = set(SIZES) if options.positions == "anchor" else set()
    if options.vocab != "same" and TOKENS[0] in names:  # tokens of a source are matched with the anchor's
        expected.update(TOKENS)
    return [name for name in names if name not in expected]
