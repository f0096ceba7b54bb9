"""Models of images and texts: recall and loss by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image, List, Value
from kinds import SENTENCES, clip, text
from PIL import Image as Picture
from transformers import CLIPModel

import transfuse
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


def test_metrics_by_hand(tmp_path: Path) -> None:
    folder = clip(tmp_path / "a", 1)
    entry = transfuse.evaluate(folder, pairs(), batch_size=5).records()[0]
    model = CLIPModel.from_pretrained(folder).eval()
    samples = PAIRS.labeled(load_samples(pairs()))
    (batch,) = samples.batches(PAIRS.preparer(PAIRS.load(folder, model.config), model.config), 50)
    with torch.no_grad():
        found = model(**batch, return_loss=True)
    assert entry["loss"] == pytest.approx(float(found.loss), rel=1e-4)
    for name, logits in (("image", found.logits_per_image), ("text", found.logits_per_text)):
        ranks = (logits > logits.diagonal()[:, None]).sum(1)
        for k in (1, 5):
            assert entry[f"{name}_recall_{k}"] == pytest.approx(float((ranks < k).double().mean()))
    assert entry["recall_1"] == pytest.approx((entry["image_recall_1"] + entry["text_recall_1"]) / 2)


def test_a_model_that_says_the_same_of_all_finds_nothing() -> None:
    same = torch.ones(30, 2, 4, dtype=torch.float64)
    found = whole(columns(same, {}, {}))
    assert float(found["image_recall_1"].sum()) == 0
    assert float(found["loss"].mean()) == pytest.approx(np.log(30))


def test_blocks_of_rows_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory that retrieval takes does not grow with the square of the samples."""
    embeddings = torch.randn(50, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    embeddings[40:] = embeddings[:10]  # ties across blocks
    at_once = whole(columns(embeddings, {}, {}))
    monkeypatch.setattr("transfuse.evaluation.row_blocks.MAX_ENTRIES", 7 * 50)
    widest, rank = [], pairs_kind._loss_and_rank
    monkeypatch.setattr(
        pairs_kind, "_loss_and_rank", lambda logits, *more: widest.append(len(logits)) or rank(logits, *more)
    )
    in_blocks = whole(columns(embeddings, {}, {}))
    assert max(widest) == 7
    for name, values in at_once.items():
        torch.testing.assert_close(in_blocks[name], values, atol=1e-12, rtol=1e-12)


def test_the_products_of_an_ensemble_are_means() -> None:
    first, second = torch.randn(2, 6, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    both = mean([first, second])
    products = [values[:, 0] @ values[:, 1].T for values in (first, second, both)]
    torch.testing.assert_close(products[2], (products[0] + products[1]) / 2)


def test_images_alone_are_not_enough(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column of texts that describe the images among 'image'; name it 'text'"):
        transfuse.evaluate(clip(tmp_path / "a", 1), pairs().remove_columns("caption"))
