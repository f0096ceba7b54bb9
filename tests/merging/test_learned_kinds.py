"""Models of every kind are trained towards their parents by the loss of their kind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from kinds import NAMES, SIZES, THINGS, bert, classes, clip, siglip, tokenizer
from PIL import Image
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedModel

import transfuse
from transfuse.fusion.result import Fusion
from transfuse.network.output_losses import output_loss

WORDS = (*NAMES, *THINGS, "in", "sees")
VALUES = torch.tensor([1.0, -0.5, 0.3, -1.2, 0.7, 0.2, -0.4])
STEPS = 100
LABELS: tuple[str, ...] = (*NAMES, *THINGS)


def sentences(count: int, seed: int) -> list[list[int]]:
    """Random words."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(len(WORDS), (count, 6), generator=generator).tolist()


def number(words: list[int]) -> float:
    """The sum of the words' values, those of the second half twice."""
    return float(VALUES[words[:3]].sum() + 2 * VALUES[words[3:]].sum())


def names(words: list[int]) -> list[str]:
    """The names among the words of the second half."""
    return [name for index, name in enumerate(LABELS) if index in words[3:]]


def trained(seed: int, **changes: Any) -> BertForSequenceClassification:
    """A model that has learned to sum the values of words, or to name them."""
    torch.manual_seed(seed)
    shape = {"initializer_range": 0.1, "hidden_size": 24, "num_hidden_layers": 2}
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = BertConfig(**SIZES | shape | no_dropout | changes)
    model = BertForSequenceClassification(config)
    rows = sentences(STEPS * 32, seed)
    batch = tokenizer()([" ".join(WORDS[word] for word in row) for row in rows], return_tensors="pt")
    numeric = config.num_labels == 1
    sets = [[float(name in names(row)) for name in LABELS] for row in rows]
    labels = torch.tensor([[number(row)] for row in rows]) if numeric else torch.tensor(sets)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for step in range(STEPS):
        part = slice(32 * step, 32 * step + 32)
        optimizer.zero_grad()
        model(**{name: values[part] for name, values in batch.items()}, labels=labels[part]).loss.backward()
        optimizer.step()
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / STEPS)
    return model.eval()


def loss(model: PreTrainedModel, test: Dataset) -> float:
    return transfuse.evaluate(model, test, processor=tokenizer()).records()[0]["loss"]


PAIRS: dict[str, tuple[dict[str, Any], Callable[[list[int]], Any]]] = {
    "score": ({"num_labels": 1}, number),
    "labels": ({"problem_type": "multi_label_classification", **classes(LABELS)}, names),
}


@pytest.mark.parametrize("column", PAIRS)
def test_learned_weights_are_better_than_the_mean_and_nearer_to_the_parents_than_fitted_ones(column: str) -> None:
    """On held-out samples, for a pair that predicts numbers and one that predicts sets of labels."""
    changes, label = PAIRS[column]
    parents = [trained(seed, **changes) for seed in (1, 2)]
    data, held_out = (
        [{"text": " ".join(WORDS[word] for word in row), column: label(row)} for row in sentences(count, seed)]
        for count, seed in ((200, 3), (200, 4))
    )
    calibration = Dataset.from_list([{"text": row["text"]} for row in data])
    test = Dataset.from_list(held_out)

    def fused(**options: Any) -> Fusion:
        return transfuse.fuse(parents, calibration, processor=tokenizer(), seed=0, **options)

    models = {name: fused(merge=name).model for name in ("mean", "least-squares")}
    learned = fused(merge="learned", steps=75)
    assert learned.record["learned_weights"]["unit"] == ("of the parents' loss" if column == "score" else "nats")
    losses = {name: loss(model, test) for name, model in models.items()}
    assert loss(learned.model, test) < 0.8 * losses["mean"]
    batch = tokenizer()(list(test["text"]), return_tensors="pt")
    predict = output_loss(parents[0]).predictions

    def distance(model: PreTrainedModel) -> float:
        """The squared difference from the mean of what the parents predict."""
        with torch.no_grad():
            first, second, found = (predict(each(**batch).logits) for each in (*parents, model))
        return float((found - (first + second) / 2).square().mean())

    assert distance(learned.model) < 0.7 * distance(models["least-squares"])


@pytest.mark.parametrize("build", [lambda folder, seed: bert(folder, BertModel, seed), clip, siglip])
def test_embeddings_come_nearer_to_their_mean(tmp_path: Path, build: Callable[[Path, int], Path]) -> None:
    """Models without a head, whose alignment puts their outputs into one basis."""
    a, b = (build(tmp_path / str(seed), seed) for seed in (1, 2))
    rows = [{"text": " ".join(WORDS[word] for word in row)} for row in sentences(20, 0)]
    if build in (clip, siglip):
        rows = [row | {"image": Image.new("RGB", (8, 8), (9 * index, 0, 9))} for index, row in enumerate(rows)]
    fusion = transfuse.fuse([a, b], Dataset.from_list(rows), merge="learned", steps=25)
    history = fusion.record["learned_weights"]
    assert history["unit"] == "of the parents' loss"
    assert min(history["excess"]) < history["excess"][0]


def test_embeddings_are_weighted_alike_by_every_weighting(tmp_path: Path) -> None:
    """Logits of images and texts depend on the other texts of the batch, so they show no confidence."""
    pair = [clip(tmp_path / str(seed), seed) for seed in (1, 2)]
    texts = [" ".join(WORDS[word] for word in row) for row in sentences(20, 0)]
    data = [{"text": text, "image": Image.new("RGB", (8, 8), (9 * row, 0, 9))} for row, text in enumerate(texts)]
    auto, *others = (
        transfuse.fuse(pair, Dataset.from_list(data), merge="least-squares", teacher_weighting=name).model.state_dict()
        for name in ("auto", "confidence", "uniform")
    )
    for other in others:
        assert all(torch.equal(auto[name], values) for name, values in other.items())
