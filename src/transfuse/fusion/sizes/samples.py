"""Samples that decide about models whose sizes are not those of the anchor.

They decide where the blocks of a model with fewer blocks go, and what a larger model gives up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.base.batch import Batch
from transfuse.base.progress import Progress, silent
from transfuse.checkpoint.reading.load import Model, model_names
from transfuse.config.data_options import is_generated
from transfuse.config.options import Options
from transfuse.data.prepare import draw, open_calibration, prepare
from transfuse.data.text.generation import given_or_generated
from transfuse.fusion.calibration import sample_budget
from transfuse.fusion.sizes.stream_similarity import stream_similarity

INPUT_SIZES = ("vocab_size", "image_size", "num_channels", "patch_size")  # in configurations
SAMPLES = 32  # that streams are compared on


@dataclass(frozen=True)
class SizeSamples:
    """Samples, and how they are prepared for each model.

    Attributes:
        models: the models as they were given, the anchor first.
        data: the samples, as `fuse` takes them.
        processor: prepares the samples; None: the processors of the models.
        cache: a folder for what is chosen and fitted; None: nothing is kept.
        removes_units: whether models that are larger than the anchor may give up blocks and units.
    """

    models: Sequence[Model]
    data: Any
    options: Options
    processor: Any = None
    progress: Progress = silent
    cache: Path | None = None
    removes_units: bool = True

    def similarity(self, anchor: PreTrainedModel, shallow: PreTrainedModel) -> Float[Tensor, "own place"] | None:
        """Return how similar each block of a model is to each of the anchor.

        None: there are no samples yet, or the models do not read the same ones.
        """
        if is_generated(self.data) or not self._read_alike(anchor, shallow):
            return None
        batches = self._prepared(self.data, SAMPLES, anchor, self.anchor, self.processor)
        return stream_similarity(anchor, shallow, batches[0])

    @property
    def anchor(self) -> Model:
        """Return the anchor as it was given."""
        return self.models[0]

    def batches(self, name: str, anchor: PreTrainedModel, model: PreTrainedModel) -> list[Batch]:
        """Return all samples as a model reads them; texts by the model itself if texts are to be generated.

        Args:
            name: what the model is called in messages.
        """
        given = dict(zip(model_names(self.models), self.models, strict=True))
        alike = self._read_alike(anchor, model)
        source, processor = (self.anchor, self.processor) if alike else (given[name], None)
        budget, seed = sample_budget(self.options), self.options.seed
        data = given_or_generated(self.data, [model], source, processor, budget, seed, self.progress)
        return list(self._prepared(data, self.options.sample_count(), model, source, processor))

    def _read_alike(self, anchor: PreTrainedModel, model: PreTrainedModel) -> bool:
        """Return whether two models read the same prepared samples. Tokenizers differ only with --vocab."""
        return self.options.vocab == "same" and read_alike(anchor, model)

    def _prepared(
        self, data: Any, count: int, model: PreTrainedModel, source: Model, processor: Any
    ) -> Sequence[Batch]:
        """Return at most `count` samples as a model reads them.

        Args:
            source: a model as it was given, whose processor prepares the samples unless `processor` is given.
        """
        options = self.options
        samples = draw(open_calibration(data, model, options), count, model, source, options, processor)
        return prepare(samples, model, source, options, processor)


def read_alike(one: PreTrainedModel, other: PreTrainedModel) -> bool:
    """Return whether two models read the same prepared samples, as far as their configurations tell."""
    return all(getattr(one.config, name, None) == getattr(other.config, name, None) for name in INPUT_SIZES)
