"""Predict the memory of a fusion with samples, from headers, configurations and the sizes of the samples."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from transformers import PreTrainedModel

from transfuse.activations.hook_points import HookPoint, input_points, output_points
from transfuse.activations.hooks import ACTIVATION_BYTES, MAX_SAMPLES
from transfuse.alignment.exact import evidence as exact
from transfuse.base.budget import FLOAT64_BYTES, FLOAT_BYTES, cache_bytes, token_bytes
from transfuse.config.options import Options
from transfuse.fusion.calibration import resolve_match_on
from transfuse.fusion.planning.fitting import FittingMemory
from transfuse.fusion.planning.learning import LearningMemory
from transfuse.fusion.planning.parts import DataPlan, MemoryParts, MemoryStage, with_freed_blocks
from transfuse.fusion.planning.plan import STARTUP_BYTES, Estimate
from transfuse.fusion.planning.samples import SampleSizes, sample_sizes
from transfuse.fusion.planning.shape import ModelShape

LOGIT_COPIES = 5  # logits of two parents, their mean, and one of them with its probabilities


@dataclass(frozen=True)
class DataEstimate:
    """Estimate the memory of fusing models with samples.

    Attributes:
        weights: the estimate of fusing them by weights.
        samples: the samples that are drawn.
        mapped: whether the parents, also in the anchor's basis, are mapped from files. Memory need not hold these.
    """

    weights: Estimate
    samples: SampleSizes
    mapped: bool = False

    @property
    def options(self) -> Options:
        """Return the options of the fusion."""
        return self.weights.options

    @property
    def count(self) -> int:
        """Return the number of models."""
        return len(self.weights.models)

    @cached_property
    def shape(self) -> ModelShape:
        """Return the sizes of the largest model."""
        return ModelShape.of(self.weights.fitted)

    @cached_property
    def stages(self) -> list[MemoryStage]:
        """Return what the fusion does in turn, and the memory that it takes."""
        return list(with_freed_blocks(self._stages()))

    @property
    def fits_layers(self) -> bool:
        """Return whether layers are fitted."""
        return self.options.merging(True) in ("least-squares", "learned")

    @property
    def learns_weights(self) -> bool:
        """Return whether weights are learned, for which a model needs predictions."""
        return self.options.merge == "learned" or (self.options.merging(True) == "learned" and self.shape.classes > 0)

    @property
    def peak(self) -> MemoryStage:
        """Return the stage that takes most memory."""
        return max(self.stages, key=lambda stage: stage.parts.total)

    @property
    def least_bytes(self) -> int:
        """Return what the fusion cannot do without, besides the program.

        Batches and caches shrink if memory is limited, so one sample counts, and the Gram matrix of the widest layer.
        """
        needed = self._loaded_models + self._aligned_models
        needed += self.samples.tokens * token_bytes(self._anchor.config, self.samples.tokens)
        if self.fits_layers:
            needed += self._merged_models + self._fitting.least_bytes
        if self.learns_weights:
            needed += max(self._learning.least_bytes - self._fitting.least_bytes, 0)
        return needed

    def plan(self) -> DataPlan:
        """Return the prediction."""
        parts = self.peak.parts
        on_gpu = self.on_gpu
        on_host = STARTUP_BYTES + self._loaded_models + 2 * self.shape.weight_bytes  # the written model, and read again
        return DataPlan(
            self.samples.count,
            self.samples.tokens,
            self.peak.name,
            parts,
            on_host if on_gpu else parts.total,
            parts.total - parts.program if on_gpu else None,
            STARTUP_BYTES + self.least_bytes,
        )

    def _stages(self) -> Iterator[MemoryStage]:
        """Yield all stages, with the memory that each takes."""
        held = MemoryParts(program=STARTUP_BYTES, models=self._loaded_models, caches=self._sample_bytes)
        weight_bytes = self.shape.weight_bytes
        if self.options.align != "none":
            yield from (stage.after(held) for stage in self._aligning())
        held += MemoryParts(models=self._aligned_models, statistics=self.weights.map_bytes)
        writing = MemoryStage("writing", held + MemoryParts(models=2 * weight_bytes))
        if self.fits_layers:
            held += MemoryParts(models=self._merged_models)
            yield from (stage.after(held) for stage in self._fitting.stages())
        if self.learns_weights:
            yield from (stage.after(held) for stage in self._learning.stages())
        yield writing

    def _aligning(self) -> Iterator[MemoryStage]:
        """Yield the memory of passing samples through the models, and of comparing alignments."""
        exact_maps = self.options.align != "flow"
        weight_bytes = self.shape.weight_bytes
        canonical = MemoryParts(models=self._aligned_models if exact_maps else 0)
        statistics = self.weights.matching_bytes + self.weights.map_bytes
        match_on = resolve_match_on(self.options, self.samples)
        if match_on == "weights":
            yield MemoryStage("aligning", canonical + MemoryParts(statistics=statistics))
            return
        points = [point for point in self._hook_points if point.is_free]
        collected = {point.projected_from or point for point in points}
        moments = FLOAT64_BYTES * sum(point.axis.size**2 for point in collected)
        evidence = FLOAT64_BYTES * sum(point.axis.size**2 for point in points) if exact_maps else 0
        evidence = min(evidence, cache_bytes("alignment evidence"))
        tokens = min(MAX_SAMPLES, self.samples.count) * self.samples.tokens
        recorded = min(tokens * FLOAT_BYTES * sum(point.axis.size for point in {*points, *collected}), ACTIVATION_BYTES)
        passed = tokens * token_bytes(self._anchor.config, self.samples.tokens)
        batches = 2 * recorded + passed
        yield MemoryStage("collecting activations", canonical + MemoryParts(statistics=moments, batches=batches))
        yield MemoryStage("aligning", canonical + MemoryParts(statistics=statistics + moments + evidence))
        if exact_maps and match_on == "both":
            logits = LOGIT_COPIES * FLOAT_BYTES * self.samples.batch_answers * self.shape.classes
            passed = self.samples.batch_tokens * token_bytes(self._anchor.config, self.samples.tokens)
            merged = MemoryParts(
                models=weight_bytes, statistics=self.weights.map_bytes + moments + evidence,
                batches=max(logits, passed),
            )  # fmt: skip
            yield MemoryStage("comparing alignments", canonical + merged)

    @property
    def _hook_points(self) -> list[HookPoint]:
        """Return where activations are recorded."""
        if self.options.align == "flow":
            points = output_points(self.weights.spec)
            return points if self.options.flow.values == "values" else [*points, *input_points(self.weights.spec)]
        return exact.hook_points(self.weights.spec)

    @cached_property
    def _fitting(self) -> FittingMemory:
        return FittingMemory(self._anchor, self.shape, self.count, self.samples)

    @cached_property
    def _learning(self) -> LearningMemory:
        options = self.options.learning()
        return LearningMemory(self._anchor, self.shape, self.count, self.samples, options, self.on_gpu)

    @cached_property
    def on_gpu(self) -> bool:
        """Return whether the fusion is computed on a GPU."""
        return self.options.torch_device().type != "cpu"

    @property
    def _anchor(self) -> PreTrainedModel:
        return self.weights.models[0]

    @property
    def _loaded_models(self) -> int:
        """Return the size of the parents: as they are computed with, and as they are stored if that is shorter."""
        if self.mapped:
            return 0
        entries = sum(model.num_parameters() for model in [*self.weights.models, *self.weights.whole])
        stored = self.weights.bytes_per_weight
        return entries * (FLOAT_BYTES + stored if stored < FLOAT_BYTES else stored)

    @property
    def _aligned_models(self) -> int:
        """Return the size of the aligned parents; exact alignments also hold the anchor in canonical form."""
        if self.mapped:
            return 0
        copies = {"none": 0, "flow": 1}.get(self.options.align, 2)
        return copies * (self.count - 1) * self.shape.weight_bytes

    @property
    def _merged_models(self) -> int:
        """Return the size of the fused model, and of the models that it is fitted to.

        These share the tensors of the aligned parents that are stored in the same form. If the model grows, they share
        none, and the parents as starts of the training do not, either.
        """
        if self.mapped:
            return self.shape.weight_bytes
        grows = self.options.grow is not None
        copied = 2 * self.shape.weight_bytes if grows else self.shape.joined_bytes
        return self.shape.weight_bytes + self.count * copied

    @property
    def _sample_bytes(self) -> int:
        """Return the size of all prepared samples, or of a batch if they are read once and take too much."""
        size = self.samples.count * self.samples.sample_bytes
        return size if size <= cache_bytes("prepared samples") or self.options.merging(True) != "mean" else 0


def data_estimate(
    weights: Estimate,
    mapped: bool,
    source: Any,
    data: Any,
    processor: Any = None,
) -> DataEstimate | None:
    """Return the estimate of fusing models with samples; None if the fusion reads no samples.

    Args:
        weights: the estimate of fusing them by weights.
        mapped: whether the models are mapped from files.
        source: the anchor as it was given, whose processor prepares the samples unless `processor` is given.

    Raises:
        TransfuseError: the samples cannot be read or prepared.
    """
    sizes = sample_sizes(data, source, weights.models[0], weights.options, processor)
    return None if sizes is None else DataEstimate(weights, sizes, mapped)
