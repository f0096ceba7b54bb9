"""From models, as paths or loaded, to models in one basis."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeAlias

from torch import nn
from transformers import PreTrainedModel

from transfuse.alignment.exact.gradient import refine_maps
from transfuse.alignment.exact.procrustes_mean import generalized_procrustes
from transfuse.alignment.flow.policy import WEIGHTED
from transfuse.alignment.flow.sample_filter import low_loss_samples
from transfuse.alignment.function_check import check_functions
from transfuse.alignment.interface import AlignContext, Alignment
from transfuse.alignment.methods import METHODS
from transfuse.base.batch import Batch, batch_bytes
from transfuse.base.budget import check_sample, samples_at_once
from transfuse.base.cache import Store
from transfuse.base.progress import Progress, silent
from transfuse.base.timing import Stopwatch
from transfuse.checkpoint.finite import check_finite
from transfuse.checkpoint.load import load_model
from transfuse.checkpoint.sentences import check_sentences
from transfuse.checkpoint.ties import check_ties
from transfuse.config.literals import EXACT, FAITHFUL
from transfuse.config.literals import Evidence as Kind
from transfuse.config.options import Options, make
from transfuse.data.lazy_batches import Prepared
from transfuse.data.samples import Samples, load_samples
from transfuse.data.splits import CALIBRATION
from transfuse.data.tasks import own_preparer, task, with_ids_of
from transfuse.distillation.loop import History, split_with_answers
from transfuse.distillation.teacher_weighting import TEACHER_WEIGHTING
from transfuse.errors import ConfigError
from transfuse.fusion.cache_keys import CacheKeys, cache_keys, no_cache
from transfuse.fusion.record import Origin, origin
from transfuse.fusion.vocabulary import Rows, recode, rows_of_words, with_own_words
from transfuse.network.compatible import check_same_function, check_same_layers
from transfuse.network.layout import unfused
from transfuse.network.model import Network, checked_declaration, network
from transfuse.network.registry import load_families

Model: TypeAlias = str | Path | PreTrainedModel
KEPT = 2**28  # bytes of samples that are prepared once; more are prepared again, where they are looked at once or twice


@dataclass(frozen=True)
class Matched:
    """Models in one basis, ready to be merged.

    Attributes:
        networks: the models, the anchor first, speaking its words.
        rows: of each model after it, which word of its vocabulary each of the anchor's is; None: the same.
        weights: one per model; they sum to one.
        alignments: one per model after the anchor, in order.
        course: how learning went, where maps were learned.
        seconds: what loading, calibrating and aligning took.
    """

    anchor: PreTrainedModel
    networks: Sequence[Network]
    rows: Sequence[Rows | None]
    weights: Sequence[float]
    options: Options
    choices: AlignContext
    data: Any
    origins: tuple[Origin, ...]
    alignments: tuple[Alignment, ...]
    course: History | None
    kept: CacheKeys
    seconds: dict[str, float]


def match(
    models: Sequence[Model],
    data: Any = None,
    progress: Progress = silent,
    processor: Any = None,
    cache: str | Path | None = None,
    room: int | None = None,
    **options: Any,
) -> Matched:
    """Carry models into the basis of the first; the arguments are those of `fuse`, and so are the errors."""
    if isinstance(models, str | Path) or not all(isinstance(model, str | Path | PreTrainedModel) for model in models):
        raise ConfigError("models: give a list of checkpoint paths or loaded transformers models, the anchor first")
    chosen: Options = make(Options, options)
    chosen.check_data(data is not None, {})
    weights = chosen.normalised_weights(len(models))
    if len(models) < 2:
        raise ConfigError("models: fusing needs at least two")
    load_families(chosen.spec)
    check_sentences(models)
    watch = Stopwatch()
    loaded = [model if isinstance(model, PreTrainedModel) else load(model, chosen) for model in models]
    rows = rows_of_words(models, loaded, chosen.vocab)
    spoken = [
        source if row is None else recode(source, row, loaded[0]) for source, row in zip(loaded[1:], rows, strict=True)
    ]
    names = [_name(model, index) for index, model in enumerate(models)]
    networks = check_models([loaded[0], *spoken], names, chosen)
    watch.lap("loading")
    choices = calibrate(networks, models[0], data, chosen, processor)
    watch.lap("preparing samples")
    origins = tuple(origin(given, model) for given, model in zip(models, loaded, strict=True))
    specs = [each.spec for each in networks]
    kept = cache_keys(Store(None if cache is None else Path(cache)), origins, specs, chosen, choices.batches)
    choices = replace(choices, room=room)
    alignments, course = align(networks, weights, choices, chosen, rows, progress, kept)
    watch.lap("aligning")
    return Matched(
        loaded[0], networks, rows, weights, chosen, choices, data, origins, tuple(alignments), course, kept, watch.laps
    )


def load(path: str | Path, options: Options) -> PreTrainedModel:
    """One checkpoint, as its files are."""
    return load_model(path, pickle=options.pickle_policy())


def check_models(models: Sequence[PreTrainedModel], names: Sequence[str], options: Options) -> list[Network]:
    """The models as networks, once they are known to fit each other."""
    check_alike(models, names)
    for model, name in zip(models, names, strict=True):
        check_finite(model.state_dict(), name)
        check_ties(model, name)
    return [network(model, options.torch_device(), name) for model, name in zip(models, names, strict=True)]


def check_alike(models: Sequence[PreTrainedModel], names: Sequence[str]) -> None:
    """Raise `ConfigError` or `SpecError` unless all models compute the same way; widths may differ."""
    for model, name in zip(models[1:], names[1:], strict=True):
        if type(model) is not type(models[0]):
            raise ConfigError(f"the anchor is a {type(models[0]).__name__}, {name} a {type(model).__name__}")
        check_same_function(models[0].config, model.config, name, type(model).__name__)
    specs = [checked_declaration(model) for model in models]
    for spec, name in zip(specs[1:], names[1:], strict=True):
        check_same_layers(unfused(specs[0]), unfused(spec), name)


def calibrate(
    networks: Sequence[Network], anchor: Model, data: Any, options: Options, processor: Any = None
) -> AlignContext:
    """Return the evidence to use, and the prepared calibration batches for it.

    Raises what `split_with_answers` raises, where the batches are used for training.
    """
    evidence = resolve_evidence(options, data)
    paper = options.paper()
    looks = options.align != "none" and (evidence != "weights" or options.policy in WEIGHTED)
    if data is None or not (looks or options.merging(True) != "mean" or options.align == "learned"):
        return AlignContext(evidence, (), paper, options.groups)
    samples, model = data if isinstance(data, Samples) else load_samples(data, CALIBRATION), networks[0].model
    if options.augment != "none" and samples.image is None:
        raise ConfigError("augment: only images can be augmented; leave it out")
    if options.needs_labels():
        samples = with_ids_of(model.config, task(type(model).__name__).labelled(samples))
    agree_on_padding(networks)
    count, most = options.sample_count(), options.max_loss
    samples = samples.take(count, options.seed) if most is None else samples.shuffled(options.seed)
    drawn = prepare(samples, model, anchor, options, processor)
    once = samples.image is not None and options.merging(True) == "mean" and options.align != "learned"
    if most is not None:
        batches: Sequence[Batch] = low_loss_samples([each.model for each in networks], drawn, most, count)
    else:
        batches = drawn if once and len(drawn) * batch_bytes(drawn[0]) > KEPT else list(drawn)
    if options.learns:
        split_with_answers(model, batches, "maps" if options.align == "learned" else "weights")
    return AlignContext(evidence, batches, paper, options.groups)


def agree_on_padding(networks: Sequence[Network]) -> None:
    """Give the anchor's padding token to sources without one: decoders that classify look for it."""
    pad = getattr(networks[0].model.config, "pad_token_id", None)
    for each in networks[1:] if pad is not None else ():
        if getattr(each.model.config, "pad_token_id", None) is None:
            each.model.config.pad_token_id = pad


def resolve_evidence(options: Options, data: Any) -> Kind:
    """`auto`: weights without data or where layers are fitted anyway; else activations for flow, both for exact."""
    if options.evidence != "auto":
        return options.evidence
    if options.align == "flow":
        return "weights" if data is None else "activations"
    return "weights" if data is None or options.merging(True) != "mean" else "both"


def prepare(
    samples: Samples, model: PreTrainedModel, given: Model, options: Options, processor: Any = None
) -> Prepared:
    """Batches on the model's device, made by `processor` or else by the checkpoint's own; where samples are long, of
    fewer than `options.batch_size`."""
    preparer = own_preparer(given, model, processor)
    chosen = task(type(model).__name__).samples(samples)
    example = preparer(chosen.inputs([chosen.longest()]))
    check_sample(model, example)
    count = samples_at_once(model, example, options.batch_size)
    return replace(chosen.prepared(preparer, count), device=model.device)


def align(
    networks: Sequence[Network],
    weights: Sequence[float],
    choices: AlignContext,
    options: Options,
    rows: Sequence[Rows | None] = (),
    progress: Progress = silent,
    kept: CacheKeys | None = None,
) -> tuple[list[Alignment], History | None]:
    """Every model after the anchor in its basis, and how learning went, where maps were learned.

    Args:
        rows: of each of them, which word of its vocabulary each of the anchor's is; None: the same.
        kept: where finished work is kept.

    Raises:
        SpecError: a model that an alignment has to leave as it is computes something else after it.
    """
    one, course, kept = METHODS[options.align], None, kept or no_cache(len(networks))
    pairs = zip(networks[1:], kept.pairs, strict=True)
    found = [one(networks[0], other, replace(choices, store=store, progress=progress)) for other, store in pairs]
    if options.basis == "common" or (options.basis == "auto" and options.align in EXACT and len(found) > 1):
        found = generalized_procrustes(
            found, weights, partial(progress.track, doing="finding a common basis"), networks[0].hold
        )
    if options.align == "learned":
        models, believe = [each.model for each in networks], TEACHER_WEIGHTING[options.trust]
        state = kept.whole.folder and kept.whole.folder / "learning.pt"
        found, course = refine_maps(
            models, found, weights, choices.batches, options.learning(), believe, options.seed, state, progress.track
        )
    if options.align in FAITHFUL:
        found = check_functions(networks, found, rows)
    both = zip_longest(found, rows)
    return [each if row is None else with_own_words(each, row, options.vocab) for each, row in both], course


def _name(model: Model, index: int) -> str:
    return f"model {index + 1}" if isinstance(model, nn.Module) else str(model)
