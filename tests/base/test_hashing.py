"""The hash of samples: it knows what was read, and not how it was put into batches."""

import torch

from transfuse.base.batch import IGNORED_LABEL
from transfuse.base.hashing import samples_digest

LONG, SHORT = torch.tensor([[5, 6, 7]]), torch.tensor([[5, 6]])
ONE, TWO = torch.ones(1, 3, dtype=torch.int64), torch.ones(1, 2, dtype=torch.int64)


def test_batches_and_padding_do_not_matter() -> None:
    padded = {
        "input_ids": torch.cat([LONG, torch.tensor([[5, 6, 0]])]),
        "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]]),
        "labels": torch.tensor([[6, 7, IGNORED_LABEL], [6, IGNORED_LABEL, IGNORED_LABEL]]),
    }
    alone = [
        {"input_ids": LONG, "attention_mask": ONE, "labels": torch.tensor([[6, 7, IGNORED_LABEL]])},
        {"input_ids": SHORT, "attention_mask": TWO, "labels": torch.tensor([[6, IGNORED_LABEL]])},
    ]
    assert samples_digest([padded]) == samples_digest(alone)
    assert samples_digest(alone) != samples_digest(alone[::-1])
    assert samples_digest(alone) != samples_digest(alone[:1])


def test_every_value_matters() -> None:
    images = {"pixel_values": torch.arange(8.0).view(2, 1, 2, 2), "labels": torch.tensor([0, 1])}
    halves = [{name: values[row : row + 1] for name, values in images.items()} for row in range(2)]
    assert samples_digest([images]) == samples_digest(halves)
    for name, values in images.items():
        changed = values.clone()
        changed[-1] += 1
        assert samples_digest([images]) != samples_digest([images | {name: changed}]), name
