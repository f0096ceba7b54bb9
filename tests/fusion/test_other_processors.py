"""When the processors of models are compared, and what is not a difference."""

from pathlib import Path

import pytest
from cli_inputs import vit
from kept_warnings import KeptWarnings
from kinds import NAMES, bert, classes, clip, tokenizer
from languages import END, llama, saved
from pictures import picture
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModelForImageClassification,
    AutoTokenizer,
    BertForSequenceClassification,
    BertTokenizer,
    CLIPImageProcessorPil,
    ViTImageProcessorPil,
)

import transfuse
from transfuse.base.progress import Silent
from transfuse.checkpoint.reading.load import load_empty
from transfuse.config.options import Options
from transfuse.fusion.other_processors import warned_of_processors

IMAGES = [picture(20 * value, "L", 8) for value in range(10)]
OPTIONS = {"merge": "least-squares", "samples": 10}


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Three models, the last of which reads images in another scale."""
    models = [vit(tmp_path / name, seed) for seed, name in enumerate("abc")]
    size = {"height": 8, "width": 8}
    ViTImageProcessorPil(size=size, image_mean=[0.1], image_std=[0.5]).save_pretrained(models[-1])
    return models


def test_every_model_that_differs_is_named_once(paths: list[Path]) -> None:
    told = KeptWarnings()
    fused = transfuse.fuse(paths, IMAGES, progress=told, **OPTIONS)
    assert [line.partition(":")[0] for line in told.lines] == [str(paths[-1])]
    assert [each["model"] for each in fused.record["other_processors"]] == [str(paths[-1])]


def test_a_processor_that_was_given_is_the_choice_of_the_user(paths: list[Path]) -> None:
    told = KeptWarnings()
    fused = transfuse.fuse(paths, IMAGES, progress=told, processor=paths[1], **OPTIONS)
    assert told.lines == []
    assert "other_processors" not in fused.record


def test_loaded_models_and_folders_without_a_processor_have_none_to_compare(paths: list[Path]) -> None:
    told = KeptWarnings()
    (paths[1] / "preprocessor_config.json").unlink()
    loaded = AutoModelForImageClassification.from_pretrained(paths[2])
    transfuse.fuse([*paths[:2], loaded], IMAGES, progress=told, **OPTIONS)
    assert told.lines == []


def test_nothing_is_loaded_without_samples(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transfuse.fusion.match.warned_of_processors", None)
    transfuse.fuse(paths)
    transfuse.fuse(paths, IMAGES, merge="mean", match_on="weights")  # which reads no samples


def settings(*models: Path, **options: str) -> list[tuple[str, ...]]:
    found = warned_of_processors(models, load_empty(models[0]), Options(**options), Silent())
    return [each.settings for each in found]


def test_what_the_options_adapt_is_no_difference(tmp_path: Path) -> None:
    a, large = vit(tmp_path / "a", 1), vit(tmp_path / "large", 2)
    ViTImageProcessorPil(size={"height": 16, "width": 16}, image_mean=[0.5], image_std=[0.5]).save_pretrained(large)
    assert settings(a, large) == [("size",)]
    assert settings(a, large, positions="anchor") == []
    b, c = (bert(tmp_path / name, BertForSequenceClassification, 1, **classes(NAMES)) for name in "bc")
    words = tokenizer().get_vocab()
    BertTokenizer(vocab={word: len(words) - 1 - row for word, row in words.items()}).save_pretrained(c)
    assert settings(b, c) == [("vocabulary",)]
    assert settings(b, c, vocab="shared") == []


def test_tokens_that_are_added_to_a_text(tmp_path: Path) -> None:
    a, b, c = (saved(tmp_path / name, llama, 1) for name in "abc")
    words = AutoTokenizer.from_pretrained(b)
    added = {"special_tokens": [(END, words.eos_token_id)]}
    for folder, template in ((b, f"{END} $A"), (c, f"$A {END}")):
        words.backend_tokenizer.post_processor = TemplateProcessing(single=template, **added)
        words.save_pretrained(folder)
    assert settings(a, b) == settings(b, c) == [("special_tokens",)]
    assert settings(a, a) == settings(b, b) == []


def test_chat_templates_are_compared_for_conversations(tmp_path: Path) -> None:
    a, b = (saved(tmp_path / name, llama, seed) for seed, name in enumerate("ab"))
    (b / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    texts = [f"number {row}" for row in range(9)]
    for data, found in ((texts, []), ([{"messages": [{"role": "user", "content": text}]} for text in texts], [b])):
        told = KeptWarnings()
        transfuse.fuse([a, b], data, progress=told, merge="least-squares")
        due = [f"{path}: the settings of its tokenizer (chat_template) differ from those of {a}" for path in found]
        assert [line.partition(",")[0] for line in told.lines if "settings" in line] == due


def test_both_processors_of_images_and_texts(tmp_path: Path) -> None:
    a, b = (clip(tmp_path / name, 1) for name in "ab")
    assert settings(a, b) == []
    size = {"height": 8, "width": 8}
    CLIPImageProcessorPil(size=size, crop_size=size, do_center_crop=False, image_std=[1, 1, 1]).save_pretrained(b)
    BertTokenizer(vocab=tokenizer().get_vocab(), do_lower_case=False).save_pretrained(b)
    assert settings(a, b) == [("image_std", "normalizer")]
