"""Models whose classes have other names are compared by labels that name classes, and by nothing else."""

from collections.abc import Sequence

from transformers import PreTrainedModel

from transfuse.base.progress import Progress
from transfuse.errors import ConfigError
from transfuse.evaluation.samples import MeasuredSamples
from transfuse.network.class_order import differing_class

CLASS_KINDS = ("classes", "entities", "label_sets")  # kinds of predictions whose numbers are classes


def check_class_names(
    names: Sequence[str], models: Sequence[PreTrainedModel], samples: Sequence[MeasuredSamples], progress: Progress
) -> None:
    """Check that models name the classes of the first one, and warn if numbers as labels mean other classes to them.

    Args:
        names: what to call the models.
        models: the models, with or without weights.
        samples: the samples that each model is measured on.

    Raises:
        ConfigError: there are no labels, and the classes of a model have other names than those of the first model.
    """
    for name, model, measured in zip(names[1:], models[1:], samples[1:], strict=True):
        if measured.task.kind not in CLASS_KINDS:
            continue
        found = differing_class(models[0].config, model.config, type(model).__name__)
        if found is None:
            continue
        difference = (
            f"{name}: class {found.index} in id2label is {found.source!r}, that of {names[0]} is {found.anchor!r}"
        )
        if not measured.labeled:
            raise ConfigError(
                f"{difference}; without labels, only models with the same classes can be compared, so give labels, or"
                " name the same classes alike in config.json"
            )
        if measured.numbered(model.config):
            progress.warn(
                f"{difference}; the labels are numbers, which each model takes as its own classes; give the names of"
                " classes as labels"
            )
