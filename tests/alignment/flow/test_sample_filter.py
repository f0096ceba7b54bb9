"""Samples that a parent gets badly wrong are passed over, and others drawn."""

import pytest
import torch
from cases import CASES
from torch.nn.functional import cross_entropy

from transfuse.alignment.flow.sample_filter import low_loss_samples, sample_losses
from transfuse.base.batch import IGNORED_LABEL, cast
from transfuse.errors import DataError

VIT = CASES[0]
BERT = next(case for case in CASES if case.name == "BertForMaskedLM")


def batches(count=40):
    for seed in range(count):
        batch = cast(VIT.inputs(VIT.build().config, seed), torch.float64)
        yield batch | {"labels": torch.tensor([seed % 5, (seed + 1) % 5])}


def test_only_what_all_models_know():
    models = [VIT.build(seed) for seed in (1, 2)]
    losses = torch.stack([torch.cat([sample_losses(model, batch) for batch in batches()]) for model in models]).amax(0)
    most = float(losses.median())
    found = low_loss_samples(models, batches(), most, 1000)
    labels = torch.cat([batch["labels"] for batch in batches()])
    assert torch.cat([batch["labels"] for batch in found]).tolist() == labels[losses <= most].tolist()
    assert 0 < int((losses <= most).sum()) < len(losses)


def test_as_many_as_asked_for_and_no_more():
    drawn = []

    def counted():
        for batch in batches():
            drawn.append(1)
            yield batch

    found = low_loss_samples([VIT.build()], counted(), 1e9, 5)
    assert [len(batch["labels"]) for batch in found] == [2, 2, 1]
    assert len(drawn) == 3


def test_none_left():
    with pytest.raises(DataError, match="raise max_loss"):
        low_loss_samples([VIT.build()], batches(), 1e-9, 5)


def test_of_texts_the_mean_over_hidden_words():
    model = BERT.build()
    batch = BERT.inputs(model.config, 3)
    labels = torch.full_like(batch["input_ids"], IGNORED_LABEL)
    labels[0, :3] = torch.tensor([4, 5, 6])
    with torch.no_grad():
        logits = model(**batch).logits.float()
    expected = cross_entropy(logits[0, :3], labels[0, :3])
    torch.testing.assert_close(
        sample_losses(model, batch | {"labels": labels}), torch.tensor([float(expected), torch.inf])
    )
