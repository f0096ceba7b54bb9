"""The number and the sizes of calibration samples, from the longest of them, which alone is prepared."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from transformers import PreTrainedModel

from transfuse.base.batch import IGNORED_LABEL, VALIDATION_EVERY, batch_bytes, is_labeled_per_sample
from transfuse.base.budget import samples_at_once, tokens_per_sample
from transfuse.config.data_options import is_generated
from transfuse.config.options import Options
from transfuse.data.columns import raw_values
from transfuse.data.prepare import draw, open_calibration, readable
from transfuse.data.processors import model_preparer
from transfuse.data.samples import Samples
from transfuse.data.text.conversations import text_length
from transfuse.data.text.generation import placeholder_samples
from transfuse.fusion.calibration import reads_samples, resolve_match_on, sample_budget


@dataclass(frozen=True)
class SampleSizes:
    """Describe the samples that a fusion draws.

    Attributes:
        count: number of samples.
        tokens: tokens of the longest.
        mean_tokens: tokens of a sample on average.
        answers: predictions for the longest: its labeled tokens, or one.
        sample_bytes: the longest sample after its preparation.
        at_once: samples of a batch.
        has_token_labels: whether tokens are predicted, not samples.
    """

    count: int
    tokens: int
    mean_tokens: float
    answers: int
    sample_bytes: int
    at_once: int
    has_token_labels: bool

    @property
    def all_tokens(self) -> float:
        """Return the number of tokens of all samples."""
        return self.count * self.mean_tokens

    @property
    def fitted_at_once(self) -> int:
        """Return the number of samples of a batch after the split for validation, which cuts few batches into five."""
        largest = min(self.at_once, self.count)
        return largest if self.count > (VALIDATION_EVERY - 1) * self.at_once else -(-largest // VALIDATION_EVERY)

    def joined(self, other: Self) -> Self:
        """Return the sizes of these samples and of others together."""
        count = self.count + other.count
        return replace(
            max(self, other, key=lambda sizes: sizes.tokens),
            count=count,
            mean_tokens=(self.all_tokens + other.all_tokens) / count,
        )

    @property
    def batch_tokens(self) -> int:
        """Return the largest number of tokens of a batch."""
        return min(self.at_once, self.count) * self.tokens

    @property
    def batch_answers(self) -> int:
        """Return the largest number of predictions for a batch."""
        return min(self.at_once, self.count) * self.answers


def sample_sizes(
    data: Any, source: Any, model: PreTrainedModel, options: Options, processor: Any = None
) -> SampleSizes | None:
    """Return the sizes of the samples that a fusion draws; None if it reads no samples.

    Args:
        data: the calibration samples, as `fuse` takes them, or None.
        source: the anchor as it was given, whose processor prepares the samples unless `processor` is given.
        model: the anchor, whose tensors may be empty.

    Raises:
        TransfuseError: the samples cannot be read or prepared.
    """
    if data is None or not reads_samples(options, resolve_match_on(options, data)):
        return None
    budget = sample_budget(options)
    generated = is_generated(data)
    samples = placeholder_samples(budget, model) if generated else open_calibration(data, model, options)
    count = budget.drawn(samples, model, source, processor)
    drawn = readable(draw(samples, count, model, source, options, processor), model)
    example = model_preparer(source, model, processor)(drawn.inputs([drawn.longest_index()]))
    tokens = tokens_per_sample(model.config, example)
    mean_tokens = tokens * _mean_share(drawn)
    per_sample = is_labeled_per_sample(example)
    return SampleSizes(
        budget.kept(len(drawn), mean_tokens, model),
        tokens,
        mean_tokens,
        1 if per_sample else int((example["labels"] != IGNORED_LABEL).sum()),
        batch_bytes(example),
        samples_at_once(model, example, options.batch_size),
        not per_sample,
    )


def _mean_share(samples: Samples) -> float:
    """Return the mean length of the samples relative to the longest, in characters; 1 for images."""
    if samples.image is not None or samples.text is None:
        return 1.0
    lengths: Sequence[int] = [text_length(value) for value in raw_values(samples.dataset, samples.text)]
    return sum(lengths) / max(len(lengths) * max(lengths), 1)
