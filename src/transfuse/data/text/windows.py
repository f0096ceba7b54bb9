"""Questions with contexts that are too long for a model: overlapping windows of the context, each with the question."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import BatchEncoding, PreTrainedConfig

from transfuse.data.text.encoding import encode

MAX_OVERLAP = 128  # tokens of a window that the next one repeats, at most; as transformers' pipeline does
MIN_ROOM = 8  # tokens of the context in a window; with less room, the context is cut off


@dataclass(frozen=True)
class Windows:
    """Hold encoded questions and contexts; those of a sample are consecutive rows.

    Attributes:
        inputs: what a model reads.
        offsets: the characters of each token of the context, empty for other tokens.
        sample: the sample of each row.
    """

    inputs: dict[str, Tensor]
    offsets: Int[Tensor, "row token 2"]
    sample: Int[Tensor, " row"]

    @property
    def first(self) -> Bool[Tensor, " row"]:
        """Return whether each row is the first of its sample."""
        return torch.cat([torch.ones(1, dtype=torch.bool), self.sample[1:] != self.sample[:-1]])

    def rows_of(self, sample: int) -> list[int]:
        """Return the rows of a sample."""
        rows: list[int] = (self.sample == sample).nonzero().flatten().tolist()
        return rows


def encode_windows(
    tokenizer: Any, config: PreTrainedConfig, rows: Sequence[Mapping[str, Any]], in_windows: bool = True
) -> Windows:
    """Return questions and contexts as rows.

    Args:
        in_windows: whether contexts that are too long are read in windows; otherwise they are cut off.
    """
    # Spaces in front of a question are of no use, and many of them would leave no room for the context.
    questions, contexts = [(row["question"] or "").strip() for row in rows], [row["context"] or "" for row in rows]
    encoding = encode(tokenizer, config, questions, contexts, return_offsets_mapping=True)
    whole = _rows(encoding, range(len(rows)))
    if not in_windows:
        return whole
    parts = []
    for sample, context in enumerate(contexts):
        (row,) = whole.rows_of(sample)
        is_cut = int(whole.offsets[row, :, 1].max()) < len(context.rstrip())
        windows = _windows(tokenizer, config, whole, row, questions[sample], context) if is_cut else None
        parts.append(windows or _selected(whole, row))
    return Windows(
        {name: torch.cat([part.inputs[name] for part in parts]) for name in whole.inputs},
        torch.cat([part.offsets for part in parts]),
        torch.cat([part.sample for part in parts]),
    )


def _windows(
    tokenizer: Any, config: PreTrainedConfig, whole: Windows, row: int, question: str, context: str
) -> Windows | None:
    """Return the windows of a context that was cut off; None if the question leaves no room for it."""
    width = whole.offsets.shape[1]
    question_tokens = len(tokenizer(question, add_special_tokens=False)["input_ids"])
    room = width - question_tokens - tokenizer.num_special_tokens_to_add(pair=True)
    if room < MIN_ROOM:
        return None
    encoding = encode(
        tokenizer,
        config,
        [question],
        [context],
        truncation="only_second",
        max_length=width,
        padding="max_length",
        stride=min(MAX_OVERLAP, room // 2),
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    sources = [row] * len(encoding.pop("overflow_to_sample_mapping"))
    return _rows(encoding, sources)


def _rows(encoding: BatchEncoding, samples: Sequence[int]) -> Windows:
    """Return encoded pairs with the characters of the tokens of their contexts."""
    offsets = encoding.pop("offset_mapping")
    is_context = torch.tensor([[part == 1 for part in encoding.sequence_ids(row)] for row in range(len(samples))])
    return Windows(dict(encoding), offsets * is_context.unsqueeze(-1), torch.tensor(list(samples)))


def _selected(windows: Windows, row: int) -> Windows:
    inputs = {name: values[row : row + 1] for name, values in windows.inputs.items()}
    return Windows(inputs, windows.offsets[row : row + 1], windows.sample[row : row + 1])
