"""Models of images and texts: recall and loss by hand."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image, List, Value
from kinds import SENTENCES, clip, siglip, text
from PIL import Image as Picture
from torch.nn.functional import cross_entropy
from transformers import AutoModel

import transfuse
from transfuse.base.batch import Batch
from transfuse.data.load import load_samples
from transfuse.data.tasks import PAIRS
from transfuse.errors import DataError
from transfuse.evaluation.kinds import pairs as pairs_kind
from transfuse.evaluation.kinds.pairs import columns, mean, whole

TEXTS = [text(*sentence) for sentence in SENTENCES[:12]]


def pairs() -> Dataset:
    generator = np.random.default_rng(0)
    images = [Picture.fromarray(generator.integers(0, 255, (8, 8, 3)).astype(np.uint8)) for _ in TEXTS]
    features = Features({"image": Image(), "caption": List(Value("string"))})
    return Dataset.from_dict({"image": images, "caption": [[caption, "another"] for caption in TEXTS]}, features)


@pytest.mark.parametrize("save", [clip, siglip])
def test_metrics_by_hand(save: Callable[[Path, int], Path], tmp_path: Path) -> None:
    folder = save(tmp_path / "a", 1)
    entry = transfuse.evaluate(folder, pairs(), batch_size=5).records()[0]
    model = AutoModel.from_pretrained(folder).eval()
    samples = PAIRS.labeled(load_samples(pairs()))
    (batch,) = samples.batches(PAIRS.preparer(PAIRS.load(folder), model.config), 50)
    with torch.no_grad():
        found = model(**batch)
    images, texts = found.logits_per_image, found.logits_per_text
    loss = (cross_entropy(images, torch.arange(12)) + cross_entropy(texts, torch.arange(12))) / 2
    assert entry["loss"] == pytest.approx(float(loss), rel=1e-4)
    for name, logits in (("image", found.logits_per_image), ("text", found.logits_per_text)):
        ranks = (logits > logits.diagonal()[:, None]).sum(1)
        for k in (1, 5):
            assert entry[f"{name}_recall_{k}"] == pytest.approx(float((ranks < k).double().mean()))
    assert entry["recall_1"] == pytest.approx((entry["image_recall_1"] + entry["text_recall_1"]) / 2)


def rows(images: Sequence[int], texts: Sequence[int]) -> Batch:
    """Pairs of images and texts that are equal if their numbers are."""
    ids = torch.tensor([[number, row] for row, number in enumerate(texts)])  # of which the second is padding
    mask = torch.tensor([[1, 0]]).expand_as(ids)
    return {"pixel_values": torch.tensor(images)[:, None].bfloat16(), "input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("count", [2, 3, 10, 11, 30])
def test_a_model_that_says_the_same_of_all_finds_by_chance(count: int) -> None:
    same = torch.ones(count, 2, 4, dtype=torch.float64)
    found = whole(columns(same, rows(range(count), range(count)), {}))
    for k in (1, 5):
        assert float(found[f"image_recall_{k}"].mean()) == pytest.approx(min(k / count, 1))
        assert float(found[f"text_recall_{k}"].mean()) == pytest.approx(min(k / count, 1))
    assert float(found["correct"].mean()) == pytest.approx(1 / count)
    assert float(found["loss"].mean()) == pytest.approx(np.log(count))


def test_each_image_with_three_texts_is_one_candidate() -> None:
    """The layout of Flickr30k has a row for each text. A model that tells images apart is right every time."""
    generator = torch.Generator().manual_seed(0)
    images = torch.nn.functional.normalize(torch.randn(10, 64, dtype=torch.float64, generator=generator), dim=1)
    images = images.repeat_interleave(3, 0)
    texts = images + 0.05 * torch.randn(30, 64, dtype=torch.float64, generator=generator)
    numbers = [row // 3 for row in range(30)]
    perfect = torch.stack([images, texts], 1)
    found = whole(columns(perfect, rows(numbers, range(30)), {}))
    assert float(found["correct"].min()) == 1
    swapped = whole(columns(perfect.flip(1), rows(range(30), numbers), {}))  # texts with three images each
    assert float(swapped["correct"].min()) == 1
    same = whole(columns(torch.ones_like(perfect), rows(numbers, range(30)), {}))
    assert float(same["text_recall_5"].mean()) == pytest.approx(5 / 10)
    missed = 27 / 30 * 26 / 29 * 25 / 28 * 24 / 27 * 23 / 26
    assert float(same["image_recall_5"].mean()) == pytest.approx(1 - missed)


def test_without_a_score_there_is_no_recall() -> None:
    embeddings = torch.full((10, 2, 4), torch.nan, dtype=torch.float64)
    found = whole(columns(embeddings, rows(range(10), range(10)), {}))
    assert all(bool(found[name].isnan().all()) for name in ("correct", "loss", "image_recall_5", "text_recall_1"))


def test_blocks_of_rows_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory that retrieval takes does not grow with the square of the samples."""
    embeddings = torch.randn(50, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    embeddings[40:] = embeddings[:10]  # ties across blocks
    batch = rows([row % 45 for row in range(50)], range(50))
    at_once = whole(columns(embeddings, batch, {}))
    monkeypatch.setattr("transfuse.evaluation.row_blocks.MAX_ENTRIES", 7 * 50)
    widest, recall = [], pairs_kind._recall
    monkeypatch.setattr(
        pairs_kind, "_recall", lambda logits, *more: widest.append(len(logits)) or recall(logits, *more)
    )
    in_blocks = whole(columns(embeddings, batch, {}))
    assert max(widest) == 7
    for name, values in at_once.items():
        torch.testing.assert_close(in_blocks[name], values, atol=1e-12, rtol=1e-12)


def test_the_products_of_an_ensemble_are_means() -> None:
    first, second = torch.randn(2, 6, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    both = mean([first, second])
    products = [values[:, 0] @ values[:, 1].T for values in (first, second, both)]
    torch.testing.assert_close(products[2], (products[0] + products[1]) / 2)


def test_rows_without_a_text_are_left_out() -> None:
    images = pairs()["image"][:4]
    samples = PAIRS.labeled(load_samples({"image": images, "text": [None, " ", "anna", "carl"]}))
    assert [row["text"] for row in samples.inputs(range(len(samples)))] == ["anna", "carl"]
    assert samples.notes == ("dataset in memory: 2 of 4 texts are empty and left out",)
    samples = PAIRS.labeled(load_samples({"image": images, "caption": [["anna", "carl"], [], None, ["paris"]]}))
    assert [row["text"] for row in samples.inputs(range(len(samples)))] == ["anna", "paris"]
    several, left_out = samples.notes
    assert "1 of 4 images has several texts, of which the first is read; give a row for each" in several
    assert "2 of 4 texts are empty and left out" in left_out


def test_images_alone_are_not_enough(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column of texts that describe the images among 'image'; name it 'text'"):
        transfuse.evaluate(clip(tmp_path / "a", 1), pairs().remove_columns("caption"))
