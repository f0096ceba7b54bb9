"""Models are compared without labels only where they read the same inputs, and by the names of their classes."""

from pathlib import Path

import pytest
import torch
from kinds import NAMES, SENTENCES, WORDS, bert, classes, text, tokenizer
from pictures import picture
from transformers import BertForSequenceClassification, BertTokenizer, ViTImageProcessorPil
from world import vit

import transfuse
from transfuse.errors import ConfigError

TEXTS = [text(*sentence) for sentence in SENTENCES[:12]]


def test_classes_in_another_order_are_compared_by_name(tmp_path: Path) -> None:
    first = bert(tmp_path / "a", BertForSequenceClassification, 1, **classes(NAMES))
    order = [2, 0, 1]
    other = BertForSequenceClassification.from_pretrained(first)
    with torch.no_grad():
        for parameter in other.classifier.parameters():
            parameter.copy_(parameter[order])
    other.config.update(classes([NAMES[row] for row in order]))
    other.save_pretrained(tmp_path / "b")
    tokenizer().save_pretrained(tmp_path / "b")
    for compared in (tmp_path / "b", other):
        record = transfuse.evaluate([first, compared], TEXTS).records()[0]
        assert record["agreement_with"][0]["agreement"] == 1
    assert not other._forward_hooks  # a loaded model predicts as before


def test_tokenizers_that_number_tokens_differently_are_refused(tmp_path: Path) -> None:
    a, b = (bert(tmp_path / name, BertForSequenceClassification, 1) for name in "ab")
    turned = [*WORDS[:5], *reversed(WORDS[5:])]
    BertTokenizer(vocab={word: index for index, word in enumerate(turned)}).save_pretrained(b)
    with pytest.raises(ConfigError, match=r"b: the settings of its tokenizer differ from those of .*a; without labels"):
        transfuse.evaluate([a, b], TEXTS)
    transfuse.evaluate([a, b], TEXTS, processor=tokenizer())


def test_image_processors_of_other_pixels_are_refused(tmp_path: Path) -> None:
    a, b = (vit(tmp_path / name, 1) for name in "ab")
    images = [picture(20 * value, "L", 8) for value in range(5)]
    transfuse.evaluate([a, b], images)
    size = {"height": 8, "width": 8}
    ViTImageProcessorPil(size=size, image_mean=[0.1], image_std=[0.5]).save_pretrained(b)
    with pytest.raises(ConfigError, match="b: the settings of its image processor differ"):
        transfuse.evaluate([a, b], images)
