"""The job: from models, as paths or loaded, to one fused model that can be saved."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from transfuse.alignment.interface import AlignContext, Alignment, aligned_weights
from transfuse.base.batch import first_samples
from transfuse.base.cache import NO_STORE, Store
from transfuse.base.progress import Progress, silent
from transfuse.base.timing import Stopwatch
from transfuse.checkpoint.card import model_card
from transfuse.checkpoint.finite import check_finite
from transfuse.checkpoint.output import Overwrite
from transfuse.checkpoint.save import of_model, save_checkpoint
from transfuse.config.literals import LearningOptions, Merge
from transfuse.config.options import Options
from transfuse.distillation.loop import split_with_answers
from transfuse.distillation.teacher_weighting import TEACHER_WEIGHTING, WeightingFn, uniform
from transfuse.fusion.match import Matched, Model, match
from transfuse.fusion.record import Origin, describe
from transfuse.fusion.vocabulary import of_words
from transfuse.merging.learned_weights import MAX_FITTED_SAMPLES, learn_weights
from transfuse.merging.least_squares import least_squares
from transfuse.merging.mean import mean
from transfuse.network.model import Network, declaration, stored_in, with_tensors


@dataclass(frozen=True)
class Fusion:
    """A fused model, and how it came about.

    Attributes:
        model: the anchor's architecture with the fused weights, in evaluation mode.
        alignments: one per model after the anchor, in order.
        options: what was chosen.
        record: what `transfuse.json` will hold: inputs with hashes, options, versions, diagnostics of every space.
        origins: where each model came from, and the hash of its weights.
        processor: what is saved with it; None: the one in the anchor's directory.
    """

    model: PreTrainedModel
    alignments: tuple[Alignment, ...]
    options: Options
    record: dict[str, Any]
    origins: tuple[Origin, ...]
    processor: Any = None

    def save(
        self,
        path: str | Path,
        overwrite: Overwrite = "refuse",
        metrics: dict[str, Any] | None = None,
    ) -> Path:
        """Write the checkpoint, its model card and `transfuse.json`, verified by reloading; all at once, or nothing.

        Args:
            overwrite: `refuse` a folder that is not empty, or `replace` it if it holds a model and nothing else.
            metrics: what was measured, by name, for the card.

        Raises:
            OutputError: `path` is not empty (unless replaced), not writable, an input, or the disk is full.
        """
        document = self.record | ({"metrics": metrics} if metrics else {})
        card = {"README.md": model_card(Path(path).name, document)}
        inputs = [origin.path for origin in self.origins]
        loaded = [origin.folder for origin in self.origins if origin.folder]
        write = of_model(self.model, inputs[0])
        return save_checkpoint(Path(path), overwrite, write, inputs, self.processor, document, card, loaded)


def fuse(
    models: Sequence[Model],
    data: Any = None,
    progress: Progress = silent,
    processor: Any = None,
    cache: str | Path | None = None,
    room: int | None = None,
    **options: Any,
) -> Fusion:
    """Fuse models into the basis and shape of the first.

    Args:
        models: two or more; the first is the anchor. Checkpoint directories, hub names or loaded models.
        data: calibration samples, unlabelled: a path, a `datasets.Dataset` or `Samples`; None: align by weights.
        progress: shows what is under way; silent by default.
        processor: prepares `data` and is saved with the fusion; None: the one in the anchor's directory. A loaded
            anchor has none, so data then needs it.
        cache: a folder for statistics, maps and fitted layers, by what they were made of: what is there is not made
            again, and a run that was cut short goes on. None: nothing is kept.
        room: bytes that statistics of activations may take in memory; beyond them, they lie in `cache`. None: no limit.
        options: fields of `Options`: align, merge, evidence, weights, samples, seed, device, dtype, ...

    Raises:
        TransfuseError: an input that cannot be fused; the message says what, where and what to do.
    """
    return merged(match(models, data, progress, processor, cache, room, **options), progress, processor)


def merged(matched: Matched, progress: Progress = silent, processor: Any = None) -> Fusion:
    """One model of those that were carried into one basis."""
    chosen, choices, watch = matched.options, matched.choices, Stopwatch()
    alignments, weights = matched.alignments, matched.weights
    other_words = any(row is not None for row in matched.rows)
    leave = of_words(declaration(matched.anchor)) if other_words else ()
    how, believe = chosen.merging(matched.data is not None), TEACHER_WEIGHTING[chosen.trust]
    fused, fits = merge(
        matched.networks[0],
        alignments,
        weights,
        choices,
        how,
        believe,
        leave,
        progress,
        matched.kept.whole,
        chosen.learning(),
        chosen.seed,
    )
    check_finite(fused.state_dict(), "the fused model")
    fused = _finish(matched.anchor, fused, chosen)
    watch.lap("merging")
    record = describe(matched.origins, chosen, weights, choices, matched.data, alignments) | fits
    if matched.course:
        record["learning"] = asdict(matched.course)
    if other_words:
        record["shared_words"] = [None if row is None else int((row >= 0).sum()) for row in matched.rows]
    record["stages"] = matched.seconds | watch.laps
    return Fusion(fused, alignments, chosen, record, matched.origins, processor)


def merge(
    anchor: Network,
    alignments: Sequence[Alignment],
    weights: Sequence[float],
    choices: AlignContext,
    how: Merge,
    believe: WeightingFn = uniform,
    leave: Collection[str] = (),
    progress: Progress = silent,
    store: Store = NO_STORE,
    learning: LearningOptions | None = None,
    seed: int = 0,
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """One model in the anchor's basis, and what is to be recorded of how it was made."""
    bases = aligned_weights(alignments)
    fused = with_tensors(anchor.model, mean(bases, weights))
    if how == "mean":
        return fused, {}
    parents = [with_tensors(anchor.model, tensors) for tensors in bases]
    each = partial(progress.track, doing="fitting layers")
    batches, halves = choices.batches, None
    if how == "learned":  # and chosen by samples that no layer was fitted to
        halves = split_with_answers(parents[0], batches, "weights")
        batches = list(first_samples(halves[0], MAX_FITTED_SAMPLES))
    kept = store.of(part="to learn from") if halves else store
    fits = least_squares(declaration(fused), fused, parents, weights, batches, believe, leave, each, kept)
    record: dict[str, Any] = {"least_squares": {name: asdict(fit) for name, fit in fits.items()}}
    if halves:
        state = store.folder and store.folder / "weights.pt"
        chosen = learning or LearningOptions()
        course = learn_weights(fused, parents, weights, halves, chosen, believe, leave, seed, state, progress.track)
        if not course.best:  # nothing gained: then no samples are withheld from the layers
            few = replace(choices, batches=list(first_samples(choices.batches, MAX_FITTED_SAMPLES)))
            fused, record = merge(anchor, alignments, weights, few, "least-squares", believe, leave, progress, store)
        record["learned_weights"] = asdict(course)
    return fused, record


def _finish(anchor: PreTrainedModel, fused: PreTrainedModel, options: Options) -> PreTrainedModel:
    """The fused model in the wanted dtype, on the CPU."""
    dtype = options.torch_dtype() or anchor.dtype
    return stored_in(dtype, fused.to("cpu"))
