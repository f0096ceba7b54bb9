"""Count the texts that are longer than a model takes, where these are cut off and not cut into blocks."""

import copy
from dataclasses import dataclass, replace
from typing import Any

from transformers import BatchEncoding, PreTrainedModel

from transfuse.base.counted import are, counted
from transfuse.base.progress import Progress, silent
from transfuse.data.image.image_texts import ImageTextProcessor
from transfuse.data.processors import model_processor
from transfuse.data.samples import Prepare, Samples
from transfuse.data.tasks import PAIRS, QUESTION_ANSWERING, task
from transfuse.data.text.target_language import lacks_target_language
from transfuse.data.text.texts import text_preparer

TEXTS_AT_ONCE = 1000  # texts that are tokenized together
INPUTS = ("input", "text", "words", "question", "context", "source", "target")  # parts that are read
IN_WINDOWS = "models are fused and trained on one part of each, and measured on all parts if there are answers"


@dataclass
class Cuts:
    """Count texts.

    Attributes:
        texts: number of texts that were tokenized.
        cut: number of those that were cut off.
        length: number of tokens that they were cut to.
    """

    texts: int = 0
    cut: int = 0
    length: int = 0


class CountingTokenizer:
    """A tokenizer that counts the texts that it cuts off. Its settings are those of the tokenizer that it wraps."""

    def __init__(self, tokenizer: Any, cuts: Cuts) -> None:
        vars(self).update(tokenizer=tokenizer, cuts=cuts)

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["tokenizer"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.tokenizer, name, value)

    def __deepcopy__(self, memo: dict[int, Any]) -> "CountingTokenizer":
        return CountingTokenizer(copy.deepcopy(self.tokenizer, memo), self.cuts)

    def __len__(self) -> int:
        return len(self.tokenizer)

    def __call__(self, *texts: Any, **settings: Any) -> BatchEncoding:
        encoding: BatchEncoding = self.tokenizer(*texts, **settings)
        self.cuts.texts += len(texts[0] if texts else settings["text_target"])
        self.cuts.length = settings.get("max_length", 0)
        if encoding.encodings is None:  # a slow tokenizer does not tell
            uncut = {name: settings[name] for name in ("text_target",) if name in settings}
            rows = self.tokenizer(*texts, truncation=False, padding=False, **uncut)["input_ids"]
            self.cuts.cut += sum(len(ids) > self.cuts.length for ids in rows)
        else:
            self.cuts.cut += sum(bool(row.overflowing) for row in encoding.encodings)
        return encoding


def warn_of_cuts(samples: Samples, model: PreTrainedModel, source: Any, processor: Any, progress: Progress) -> None:
    """Warn if texts are longer than the model takes: say how many, of how many, and at which number of tokens.

    Args:
        model: the model, whose tensors may be empty.
        source: the model as it was passed by the user, whose processor is read unless `processor` is given.
    """
    model_task = task(type(model).__name__)
    if progress is silent or model_task.processor == "image processor":
        return
    processor = model_processor(source, model, processor)
    read = samples if samples.parts else model_task.samples(samples)
    parts = {name: column for name, column in read.parts.items() if name in INPUTS}
    read = replace(read, parts=parts, label=None)
    says_language = not ("target" in parts and lacks_target_language(processor))
    cuts = Cuts()
    prepare: Prepare
    if model_task is PAIRS:
        texts = processor.texts if isinstance(processor, ImageTextProcessor) else processor.tokenizer
        prepare = text_preparer(CountingTokenizer(texts, cuts), model.config.text_config)
    else:
        prepare = model_task.preparer(CountingTokenizer(processor, cuts), model.config)
    for start in range(0, len(read), TEXTS_AT_ONCE):
        prepare(_values(read, range(start, min(start + TEXTS_AT_ONCE, len(read)))))
    if not says_language:
        progress.warn(
            f"{samples.name}: the tokenizer does not say the language of the targets (tgt_lang in"
            f" tokenizer_config.json), so they are marked as {processor.src_lang}, like the sources"
        )
    if cuts.cut:
        answers = model_task is QUESTION_ANSWERING
        progress.warn(
            f"{samples.name}: {cuts.cut} of {counted(cuts.texts, 'text')} {are(cuts.cut)} longer than"
            f" {counted(cuts.length, 'token')}; {IN_WINDOWS if answers else 'the model reads the beginning only'}"
        )


def _values(samples: Samples, indices: range) -> list[Any]:
    """Return what the tokenizer reads: rows of parts, or the text of each row if it is the only part."""
    rows = samples.inputs(indices)
    for part in ("input", "text"):
        if samples.parts.keys() == {part}:
            return [row[part] or "" for row in rows]
    return rows
