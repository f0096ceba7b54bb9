"""The memory of training the weights of a fused model: copies to return to, optimizers, targets, and one batch."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from transfuse.base.batch import VALIDATION_EVERY
from transfuse.base.budget import FLOAT_BYTES, attention_weights, cache_bytes, tokens_at_once
from transfuse.config.literals import LearningOptions
from transfuse.data.tasks import MASKED_LM, task
from transfuse.distillation.image_variants import MAX_IMAGE_VARIANTS
from transfuse.distillation.sliced_loss import CPU_SLICE, GPU_SLICE
from transfuse.distillation.text_variants import MAX_TEXT_VARIANTS
from transfuse.fusion.planning.parts import MemoryParts, MemoryStage
from transfuse.fusion.planning.samples import SampleSizes
from transfuse.fusion.planning.shape import ModelShape
from transfuse.merging.training.learned_weights import MAX_TEXTS, MIN_ANSWERS
from transfuse.merging.training.starts import most_states
from transfuse.network.precision import mixed_dtype

SLICE_COPIES = 6  # of a slice of logits: these, their logarithms, targets, their two factors, and gradients


@dataclass(frozen=True)
class LearningMemory:
    """Estimate the memory of training weights.

    Attributes:
        model: the anchor, whose tensors may be empty.
        parents: number of parents.
        samples: the samples that are drawn.
    """

    model: PreTrainedModel
    shape: ModelShape
    parents: int
    samples: SampleSizes
    options: LearningOptions
    on_gpu: bool = False

    def stages(self) -> Iterator[MemoryStage]:
        """Yield what is done, and the memory that it takes besides the models."""
        caches = self.cached_targets
        batches = self._batch if self.options.trains else 0
        yield MemoryStage("training", MemoryParts(caches=caches, batches=batches, training=self._while_choosing))

    @property
    def least_bytes(self) -> int:
        """Return the size of what training cannot do without.

        These are the best weights of the choice and, at a time, a state that was read from a file, or gradients, best
        weights and optimizers' states.
        """
        return self.shape.weight_bytes + self._state_bytes

    @property
    def cached_targets(self) -> int:
        """Return the size of the cached predictions and streams of the parents."""
        samples, shape = self.samples, self.shape
        validation = samples.all_tokens / VALIDATION_EVERY * self._target_bytes
        batches = max(1.0, (samples.all_tokens - samples.all_tokens / VALIDATION_EVERY) / self._batch_tokens)
        stored = mixed_dtype(torch.device("cuda" if self.on_gpu else "cpu"))
        stream_bytes = stored.itemsize * (shape.blocks - 1) * shape.width
        batch_bytes = self._batch_tokens * (stream_bytes + self._target_bytes)
        drawn = self._drawn_batches(batches * self._variants)
        training = min(drawn * batch_bytes, cache_bytes("parent activations"))
        return int(min(validation, cache_bytes("parent predictions")) + training)

    @property
    def _target_bytes(self) -> float:
        """Return the bytes of the targets of a token: probabilities, or what the parents' heads read."""
        numbers = min(self.shape.classes, self.parents * self.shape.width)
        return FLOAT_BYTES * numbers * self.samples.answers / self.samples.tokens

    @property
    def _batch_tokens(self) -> int:
        """Return the number of tokens of a batch that is trained on."""
        tokens = tokens_at_once(self.model, self.samples.tokens, gradients=True)
        limit = MAX_TEXTS if self.samples.has_token_labels else MIN_ANSWERS
        return self.samples.tokens * max(1, min(tokens // self.samples.tokens, limit, self.samples.fitted_at_once))

    @property
    def _variants(self) -> int:
        """Return how many variants of a batch take turns."""
        if self.options.augment != "auto" or self.options.objective == "labels":
            return 1
        if not self.samples.has_token_labels:
            return MAX_IMAGE_VARIANTS
        return 1 if self._is_causal else MAX_TEXT_VARIANTS

    @property
    def _is_causal(self) -> bool:
        """Return whether tokens are predicted that are not masked, so that streams need not be matched."""
        return self.samples.has_token_labels and task(type(self.model).__name__) is not MASKED_LM

    def _drawn_batches(self, most: float) -> float:
        """Return how many batches are drawn at most; the first one is drawn in any case."""
        if not self.options.trains:
            return 1.0
        if self.options.steps is None:
            return most
        answers = self._batch_tokens // self.samples.tokens * self.samples.answers
        return min(most, 1.0 + self.options.steps * -(-MIN_ANSWERS // max(answers, 1)))

    @property
    def _optimizer_bytes(self) -> int:
        """Return the size of the states of the optimizers, which do not exist before the first step."""
        return self.shape.optimizer_bytes if self.options.trains else 0

    @property
    def _state_bytes(self) -> int:
        """Return the size of a state: weights and, where they are trained, the best ones and the optimizers' states."""
        return (2 if self.options.trains else 1) * self.shape.weight_bytes + self._optimizer_bytes

    @property
    def _while_choosing(self) -> int:
        """Return the largest size of weights, gradients and states while starts are compared.

        The loop has gradients, best weights and optimizers' states, and the choice has the best weights. The starts
        that wait have states in memory, as far as these may stay there.
        """
        waiting = most_states(self.parents, self._is_causal) * self._state_bytes
        return self.least_bytes + min(waiting, cache_bytes("idle states"))

    @property
    def _batch(self) -> int:
        """Return the size of what is computed for a batch: activations with gradients, the parents' streams, logits."""
        shape, tokens = self.shape, self._batch_tokens
        attention = shape.blocks * attention_weights(self.model.config, self.samples.tokens)
        activations = tokens * FLOAT_BYTES * (shape.trained_numbers + attention)
        streams = FLOAT_BYTES * tokens * (shape.blocks - 1) * shape.width * (self.parents + 1)
        logits = tokens // self.samples.tokens * self.samples.answers * shape.classes
        entries = min(logits, GPU_SLICE if self.on_gpu else CPU_SLICE)
        return activations + streams + SLICE_COPIES * FLOAT_BYTES * entries
