"""The memory of fitting layers by least squares: Gram matrices, cached outputs, and rows that units are selected by."""

from collections.abc import Iterator
from dataclasses import dataclass

from transformers import PreTrainedModel

from transfuse.activations.token_importance import MAX_SAMPLES as IMPORTANCE_SAMPLES
from transfuse.base.batch import VALIDATION_EVERY
from transfuse.base.budget import FLOAT64_BYTES, FLOAT_BYTES, attention_weights, cache_bytes, tokens_at_once
from transfuse.fusion.planning.parts import MemoryParts, MemoryStage, large_blocks
from transfuse.fusion.planning.samples import SampleSizes
from transfuse.fusion.planning.shape import ModelShape
from transfuse.merging.fitting.head_problem import ITERATIONS
from transfuse.merging.fitting.least_squares import MAX_CANDIDATE_INPUTS, ROWS_PER_INPUT
from transfuse.merging.fitting.output_head import MAX_SCORES, RIDGE_PENALTIES
from transfuse.merging.fitting.reader_rows import BLOCK_ROWS, VALIDATION_SHARE, row_count
from transfuse.merging.training.learning import MAX_FITTED_SAMPLES

GRADIENT_LOGITS = 4  # logits, their joined copy, their gradient, and the cumulative probabilities for drawing classes
SELECTION_SQUARES = 2  # squares of all candidates: their moments, and those of the selected ones or their factor
SOLVER_SQUARES = 5  # squares of all inputs: moments of training and validation, their sum, a copy, and its factor
LBFGS_COPIES = 2 * ITERATIONS + 8 + len(RIDGE_PENALTIES) + 1  # history, line search, and the candidates


@dataclass(frozen=True)
class FittingMemory:
    """Estimate the memory of fitting layers.

    Attributes:
        model: the largest model, whose tensors may be empty.
        parents: number of parents.
        samples: the samples that are drawn.
    """

    model: PreTrainedModel
    shape: ModelShape
    parents: int
    samples: SampleSizes

    def stages(self) -> Iterator[MemoryStage]:
        """Yield what is done, and the memory that it takes besides the models."""
        yield MemoryStage("weighting tokens", MemoryParts(batches=self.importance_batch))
        yield MemoryStage("fitting layers", self.moments)
        if self.candidates:
            square = FLOAT64_BYTES * self.candidates**2
            yield MemoryStage("selecting units", self.selection, large_blocks(square, SELECTION_SQUARES))
        if self.shape.fits_head:
            history = large_blocks(FLOAT_BYTES * self.shape.head_entries, LBFGS_COPIES)
            yield MemoryStage("fitting the head", self.head, history)

    @property
    def least_bytes(self) -> int:
        """Return the size of the Gram matrix of the widest layer, without which nothing is fitted."""
        return FLOAT64_BYTES * max(self.shape.hidden, self.candidates) ** 2

    @property
    def candidates(self) -> int:
        """Return the number of inputs that hidden units are selected from; 0 if they are not selected."""
        count = self.shape.hidden * self.parents
        return count if self.shape.interchangeable and count <= MAX_CANDIDATE_INPUTS else 0

    @property
    def importance_batch(self) -> int:
        """Return the size of the activations and logits of a batch whose tokens are weighted by gradients."""
        samples = self.samples
        count = min(samples.fitted_at_once, IMPORTANCE_SAMPLES)
        tokens = min(count * samples.tokens, max(tokens_at_once(self.model, samples.tokens, True), samples.tokens))
        attention = self.shape.blocks * attention_weights(self.model.config, samples.tokens)
        activations = tokens * FLOAT_BYTES * (self.shape.observed_numbers + attention)
        logits = -(-tokens // samples.tokens) * samples.answers * self.shape.classes
        return activations + GRADIENT_LOGITS * FLOAT_BYTES * logits

    @property
    def moments(self) -> MemoryParts:
        """Return the memory of collecting the moments of one stage and solving for its layers."""
        shape = self.shape
        recorded = shape.hidden + shape.width + self.parents * (2 * shape.stage_outputs + shape.width)
        activations = self._batch_tokens * FLOAT_BYTES * (recorded + shape.stage_outputs)
        solver = SOLVER_SQUARES * FLOAT64_BYTES * shape.hidden**2
        return MemoryParts(
            statistics=max(self._stage_moments, solver), caches=self._cached_outputs, batches=activations
        )

    @property
    def selection(self) -> MemoryParts:
        """Return the memory of selecting hidden units among those of all parents."""
        shape = self.shape
        row_bytes = FLOAT_BYTES * (self.candidates + shape.hidden + shape.width)
        validation = min(row_count(self.candidates, VALIDATION_SHARE), self._fitted_tokens / VALIDATION_EVERY)
        block = min(BLOCK_ROWS + self._batch_tokens, self._fitted_tokens)
        square = FLOAT64_BYTES * self.candidates**2
        collecting = 3 * square // 2 + 2 * block * row_bytes  # sums in double and products in single precision
        states = (1 + self.parents) * FLOAT_BYTES * shape.hidden * (shape.stage_maps + 1) * shape.width
        statistics = max(SELECTION_SQUARES * square, collecting) + self._stage_moments + states
        return MemoryParts(statistics=int(statistics), caches=self._cached_outputs + int(validation * row_bytes))

    @property
    def head(self) -> MemoryParts:
        """Return the memory of fitting the output head: the parents' probabilities, and the steps of L-BFGS."""
        shape, samples = self.shape, self.samples
        answers = min(samples.count, MAX_FITTED_SAMPLES) * samples.answers * samples.mean_tokens / samples.tokens
        train = min(MAX_SCORES / shape.classes, answers)
        validation = min(MAX_SCORES / shape.classes, answers / VALIDATION_EVERY)
        row_bytes = FLOAT_BYTES * (shape.classes + shape.width)
        solver = LBFGS_COPIES * FLOAT_BYTES * shape.head_entries
        outputs = (1 + self.parents) * self._fitted_tokens * FLOAT_BYTES * shape.width
        probabilities = (train + 4 * validation) * row_bytes  # targets of both, and three copies of validated scores
        return MemoryParts(statistics=int(solver + probabilities), caches=int(outputs))

    @property
    def _batch_tokens(self) -> int:
        """Return the number of tokens of a batch."""
        return self.samples.fitted_at_once * self.samples.tokens

    @property
    def _fitted_tokens(self) -> float:
        """Return the number of tokens that layers are fitted to and validated on."""
        rows = ROWS_PER_INPUT * self.shape.hidden * self.parents * (1 + 1 / (VALIDATION_EVERY - 1))
        available = min(self.samples.count, MAX_FITTED_SAMPLES) * self.samples.mean_tokens
        return min(available, rows + self._batch_tokens)

    @property
    def _stage_moments(self) -> int:
        """Return the size of the moments of one stage, of the training and of the validation samples."""
        shape = self.shape
        entries = shape.stage_maps * shape.width**2 + shape.width * shape.stage_outputs * (1 + self.parents)
        return 2 * FLOAT64_BYTES * entries

    @property
    def _cached_outputs(self) -> int:
        """Return the size of the outputs of blocks, of their children, and of the parents' layers that are kept."""
        shape = self.shape
        models = 1 + self.parents
        number_bytes = self._fitted_tokens * FLOAT_BYTES
        children = models * shape.child_outputs * number_bytes
        children = children if children <= cache_bytes("block outputs") else 0
        watched = min(2 * self.parents * shape.width * number_bytes, cache_bytes("parent activations"))
        following = self.parents * shape.width * number_bytes  # outputs of the parents' next block
        return int(models * shape.width * number_bytes + children + watched + following)
