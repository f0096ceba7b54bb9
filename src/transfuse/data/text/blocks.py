"""Long texts cut into blocks that a language model takes, and short ones packed into blocks of the size asked for."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel

from transfuse.base.counted import are, counted
from transfuse.base.progress import Progress, silent
from transfuse.config.data_options import DataOptions
from transfuse.data.processors import model_processor
from transfuse.data.samples import Samples
from transfuse.data.tasks import CAUSAL_LM, MASKED_LM, task
from transfuse.data.text.context import in_context
from transfuse.data.text.conversations import as_text
from transfuse.data.text.cut_texts import warn_of_cuts
from transfuse.data.text.encoding import require_offsets
from transfuse.data.text.text_bytes import knows_places
from transfuse.data.text.texts import MAX_LENGTH, max_tokens
from transfuse.errors import ConfigError

TEXTS_AT_ONCE = 1000  # texts that are tokenized together


def in_blocks(
    samples: Samples,
    model: PreTrainedModel,
    source: Any,
    processor: Any,
    options: DataOptions,
    progress: Progress = silent,
) -> Samples:
    """Cut texts that are too long for a language model into consecutive blocks, and say so after the samples' notes.

    A block is a part of the text. Its tokens can differ from those of the whole text at both ends. With a block size,
    consecutive short texts are packed into one block, with the token that ends a text between them. With a stride, each
    block of a long text begins with tokens of the one before, which are not predicted again. Samples of other models,
    and those of a tokenizer that does not know the places of its tokens, are returned as they are, and a warning says
    how many of them the model cuts off.

    Args:
        model: the model, whose tensors may be empty.
        source: the model as it was passed by the user, whose tokenizer is read unless `processor` is given.
        options: `block_size` is the largest number of tokens of a block; None: what the model and its tokenizer take.
            `stride` is the number of tokens that a further block predicts; None: all of its tokens.

    Raises:
        ConfigError: a stride was given for a model that is not a causal language model, or a block size for one that is
            no language model; the tokenizer does not know the places of its tokens; the stride exceeds the block; or
            the tokens that the tokenizer adds take all of the stride or the block.
    """
    for note in samples.notes:
        progress.warn(note)
    architecture = type(model).__name__
    model_task = task(architecture)
    if options.stride is not None and model_task is not CAUSAL_LM:
        raise ConfigError(f"stride: {architecture} is not a causal language model; leave it out")
    if model_task not in (CAUSAL_LM, MASKED_LM):
        if options.block_size is not None:
            raise ConfigError(
                f"block_size: {architecture} is not a language model, so its samples are not cut into blocks;"
                " leave it out"
            )
        warn_of_cuts(samples, model, source, processor, progress)
        return samples
    tokenizer = model_processor(source, model, processor)
    limits = (options.block_size, max_tokens(model.config), tokenizer.model_max_length)
    length = min(MAX_LENGTH, *(int(limit) for limit in limits if limit is not None))
    if options.block_size is not None or options.stride is not None:
        require_offsets(tokenizer, "block_size and stride")
    if length == MAX_LENGTH or not knows_places(tokenizer):
        warn_of_cuts(samples, model, source, tokenizer, progress)
        return samples
    overlap = _overlap(tokenizer, length, options.stride)
    return _cut(model_task.samples(samples), tokenizer, length, overlap, options, progress)


def _overlap(tokenizer: Any, length: int, stride: int | None) -> int:
    """Return the number of tokens that a block shares with the one before. Raise `ConfigError` if no text fits in."""
    overlap = 0 if stride is None else length - stride
    if overlap < 0:
        raise ConfigError(f"stride: {stride} tokens are more than a block of {length}; give a smaller number")
    special = tokenizer.num_special_tokens_to_add()
    if overlap >= length - special:
        name = "block_size" if stride is None else "stride"
        raise ConfigError(
            f"{name}: the tokenizer adds {counted(special, 'token')} to each block, which leaves none for a text; give"
            f" more than {special}"
        )
    return overlap


def _cut(
    samples: Samples, tokenizer: Any, length: int, overlap: int, options: DataOptions, progress: Progress
) -> Samples:
    """Return texts in blocks of at most `length` tokens, and say how many were cut or packed."""
    blocks: list[Any] = []
    rows: list[int] = []
    cut = 0
    for start in range(0, len(samples), TEXTS_AT_ONCE):
        indices = range(start, min(start + TEXTS_AT_ONCE, len(samples)))
        texts = [as_text(tokenizer, value) for value in samples.inputs(indices)]
        for index, parts in zip(indices, _parts(texts, tokenizer, length, overlap), strict=True):
            blocks += parts
            cut += len(parts) > 1
            rows += [samples.rows[index]] * len(parts)
    if cut:
        progress.warn(
            f"{cut} of {counted(len(samples), 'text')} {are(cut)} longer than {counted(length, 'token')};"
            f" {'it' if cut == 1 else 'they'} {are(cut)} cut into blocks"
        )
    pieces = len(blocks)
    if options.block_size is not None and options.stride is None:
        blocks, rows = _packed(blocks, rows, tokenizer, length)
    if len(blocks) < pieces:
        progress.warn(
            f"{counted(pieces, 'text')} {are(pieces)} packed into {counted(len(blocks), 'block')} of at most"
            f" {counted(length, 'token')}"
        )
    elif not cut:
        return samples
    return replace(samples, dataset=Dataset.from_dict({"text": blocks}), text="text", rows=rows)


def _parts(texts: Sequence[str], tokenizer: Any, length: int, overlap: int) -> list[list[Any]]:
    """Return the blocks of each text: strings, or with an overlap, their contexts too."""
    encoded = tokenizer(
        list(texts),
        truncation=True,
        max_length=length,
        stride=overlap,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    parts: list[list[Any]] = [[] for _ in texts]
    ends = [0] * len(texts)  # of what is in blocks, in characters
    for index, places in zip(encoded["overflow_to_sample_mapping"], encoded["offset_mapping"], strict=True):
        spans = [(first, last) for first, last in places if last]
        first, last = (spans[0][0], spans[-1][1]) if spans else (0, None)
        block = texts[index][ends[index] : last]
        parts[index].append(in_context(texts[index][first : ends[index]], block) if overlap else block)
        ends[index] = last or len(texts[index])
    return parts


def _packed(texts: Sequence[str], rows: Sequence[int], tokenizer: Any, length: int) -> tuple[list[str], list[int]]:
    """Join consecutive texts as long as they fit into a block, and return the blocks and the first row of each."""
    separator = tokenizer.eos_token or tokenizer.sep_token or "\n\n"
    space = length - tokenizer.num_special_tokens_to_add()
    gap = len(tokenizer(separator, add_special_tokens=False)["input_ids"])
    blocks: list[list[str]] = []
    starts: list[int] = []
    free = 0
    for text, row, ids in zip(texts, rows, _token_ids(texts, tokenizer), strict=True):
        if not blocks or len(ids) + gap > free:
            blocks.append([])
            starts.append(row)
            free = space + gap
        blocks[-1].append(text)
        free -= len(ids) + gap
    return [separator.join(parts) for parts in blocks], starts


def _token_ids(texts: Sequence[str], tokenizer: Any) -> Iterator[list[int]]:
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        yield from tokenizer(list(texts[start : start + TEXTS_AT_ONCE]), add_special_tokens=False)["input_ids"]
