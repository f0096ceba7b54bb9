"""Texts that causal language models write themselves, for fusions without data.

A model's own samples show what it learned (compare data-free distillation, Yin et al., 1912.08795, and sampled
pseudo-data, Sun et al., 1909.03329). Each model writes as many texts as the others. Masked language models are refused,
because texts that they fill from nothing are unlike those that they learned (docs/log.md).
"""

from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from jaxtyping import Int
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from transfuse.base.progress import Progress
from transfuse.config.data_options import GENERATED, DataOptions, is_generated
from transfuse.data.files.splits import CALIBRATION
from transfuse.data.load import open_samples
from transfuse.data.processors import model_processor
from transfuse.data.sample_budget import SampleBudget
from transfuse.data.samples import Samples
from transfuse.data.tasks import CAUSAL_LM, check_causal, task
from transfuse.data.text.text_bytes import knows_places
from transfuse.data.text.texts import max_tokens
from transfuse.errors import ConfigError, DataError

LENGTH = 128  # tokens of a text, unless the models take fewer
AT_ONCE = 50  # texts


def calibration_samples(data: str | None, architecture: str, options: DataOptions) -> Samples | str | None:
    """Open the samples of a fusion for models of a class. `generated` is returned as it is, once it was checked.

    Raises:
        ConfigError: models of this class cannot generate samples.
        DataError: there are no such samples.
    """
    if is_generated(data):
        check_writes_texts(architecture)
    if data is None or is_generated(data):
        return data
    return task(architecture).samples(open_samples(data, options, CALIBRATION))


def check_writes_texts(architecture: str) -> None:
    """Raise `ConfigError` unless models of a class can write texts."""
    if task(architecture) is not CAUSAL_LM:
        raise ConfigError(
            f"data: {architecture} cannot generate texts, as causal language models can; give samples instead"
        )


def given_or_generated(
    data: Any,
    writers: Sequence[PreTrainedModel],
    source: Any,
    processor: Any,
    budget: SampleBudget,
    seed: int,
    progress: Progress,
) -> Any:
    """Return the samples as they are given; if they are to be generated, texts by all models in turn.

    Args:
        writers: the models that write the texts.
        source: a model as it was passed by the user, whose tokenizer they use.
        processor: the tokenizer; None: the one that is saved with the model.
    """
    if not is_generated(data):
        return data
    return generated_samples(writers, model_processor(source, writers[0], processor), budget, seed, progress)


def generated_samples(
    models: Sequence[PreTrainedModel], tokenizer: Any, budget: SampleBudget, seed: int, progress: Progress
) -> Samples:
    """Return texts by all models in turn, none of which is longer than the models take.

    Args:
        models: causal language models with one vocabulary.
        budget: how many texts.

    Raises:
        ConfigError: a model is not a causal language model, or the tokenizer has no token that starts a text.
        SpecError: a model is a bidirectional encoder.
        DataError: all texts are empty.
    """
    for model in models:
        check_writes_texts(type(model).__name__)
        check_causal(model.config)
    first = _first_token(tokenizer, models[0])
    taken = min([tokenizer.model_max_length, *filter(None, (max_tokens(model.config) for model in models))])
    length = min(LENGTH, taken)
    count = _count(budget, models[0])
    rounds = -(-count // (AT_ONCE * len(models)))
    texts: list[str] = []
    with torch.random.fork_rng(devices=[model.device for model in models if model.device.type == "cuda"][:1]):
        torch.manual_seed(seed)
        for _ in progress.track(range(rounds), "generating texts"):
            for model in models:
                texts += tokenizer.batch_decode(_continued(first, model, tokenizer, length), skip_special_tokens=True)
    texts = [text for text in _cut(texts, tokenizer, taken) if text.strip()]
    if not texts:
        raise DataError("data: the models generated only empty texts; give samples instead")
    return _samples(texts).take(count, seed)


def placeholder_samples(budget: SampleBudget, model: PreTrainedModel) -> Samples:
    """Return texts of about the number and size of generated ones, to plan a fusion."""
    return _samples(["a " * LENGTH] * _count(budget, model))


def _count(budget: SampleBudget, model: PreTrainedModel) -> int:
    return budget.kept(budget.count, LENGTH, model)


def _samples(texts: list[str]) -> Samples:
    return Samples(Dataset.from_dict({"text": texts}), None, "text", None, GENERATED, GENERATED, range(len(texts)))


def _first_token(tokenizer: Any, model: PreTrainedModel) -> int:
    """Return the token that a causal model starts a text with."""
    for token in (tokenizer.bos_token_id, model.config.bos_token_id, tokenizer.eos_token_id, model.config.eos_token_id):
        if isinstance(token, int):
            return token
    raise ConfigError("data: the tokenizer has no token that starts a text, so none can be generated; give texts")


def _cut(texts: list[str], tokenizer: Any, length: int) -> list[str]:
    """Return texts without what models do not take.

    A text can have more tokens when it is read than when it was generated, for example if bytes form no letter.

    Args:
        length: the number of tokens that the models take, with those that the tokenizer adds.
    """
    if not knows_places(tokenizer):
        return texts
    room = length - tokenizer.num_special_tokens_to_add()
    places = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    too_long = {index: spans[room][0] for index, spans in enumerate(places) if len(spans) > room}
    if not too_long:
        return texts
    return _cut([text[: too_long.get(index)] for index, text in enumerate(texts)], tokenizer, length)


@torch.no_grad()
def _continued(first: int, model: PreTrainedModel, tokenizer: Any, length: int) -> Int[Tensor, "text token"]:
    """Return texts by a causal model, drawn from its predictions as they are."""
    start = torch.full((AT_ONCE, 1), first, device=model.device)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    settings = GenerationConfig(
        do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_length=length, min_new_tokens=2,
        bos_token_id=first, eos_token_id=tokenizer.eos_token_id, pad_token_id=first if pad is None else pad,
    )  # fmt: skip
    saved, model.generation_config = model.generation_config, settings  # which would fill in what is not set here
    try:
        texts: Tensor = model.generate(start, attention_mask=torch.ones_like(start))
    finally:
        model.generation_config = saved
    return texts
