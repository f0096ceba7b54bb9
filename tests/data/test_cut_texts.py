"""Texts that a model cuts off are counted, whatever it reads of a sample."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cases import BART, ESM, T5
from datasets import Dataset
from kept_warnings import KeptWarnings
from kinds import NAMES, WORDS, bert, classes, clip, tokenizer
from languages import gpt2, saved
from PIL import Image
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from tokenizers.implementations import SentencePieceBPETokenizer
from transformers import (
    AutoModelForCausalLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    ByT5Tokenizer,
    CLIPModel,
    EsmConfig,
    EsmForMaskedLM,
    EsmTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    M2M100Config,
    M2M100ForConditionalGeneration,
    M2M100Tokenizer,
    NllbTokenizer,
    T5Config,
    T5ForConditionalGeneration,
)

from transfuse import evaluate
from transfuse.config.data_options import DataOptions
from transfuse.data.load import load_samples
from transfuse.data.text.blocks import in_blocks
from transfuse.errors import CheckpointError, ConfigError

SHORT, LONG = "anna sees apples", "anna sees apples " * 9  # 24 tokens with the two at the ends fit
LAST = "anna sees apples " * 7 + "anna"  # as many as fit
REGRESSION = {"num_labels": 1}


CASES: dict[str, tuple[Any, dict[str, Any], dict[str, list[Any]]]] = {
    "classes": (BertForSequenceClassification, classes(NAMES), {"text": [SHORT, LONG, LAST], "label": [0, 1, 2]}),
    "pairs": (
        BertForSequenceClassification,
        classes(NAMES),
        {"premise": [SHORT, LAST, SHORT], "hypothesis": [SHORT, SHORT, "anna"], "label": [0, 1, 2]},
    ),
    "numbers": (BertForSequenceClassification, REGRESSION, {"text": [SHORT, LONG, LAST], "score": [0.5, 1.5, 2.0]}),
    "words": (
        BertForTokenClassification,
        classes(("O", "B-PER")),
        {"tokens": [each.split() for each in (SHORT, LONG, LAST)], "tags": [[0] * 3, [0] * 27, [0] * 22]},
    ),
    "answers": (
        BertForQuestionAnswering,
        {},
        {"question": ["who"] * 3, "context": [SHORT, LONG, SHORT], "answers": ["anna"] * 3},
    ),
    "no head": (BertModel, {}, {"text": [SHORT, LONG, LAST]}),
}


@pytest.mark.parametrize("name", CASES)
def test_texts_that_are_cut_off_are_counted(name: str, tmp_path: Path) -> None:
    build, config, columns = CASES[name]
    model, told = build.from_pretrained(bert(tmp_path / "a", build, 0, **config)), KeptWarnings()
    samples = load_samples(Dataset.from_dict(columns))
    assert in_blocks(samples, model, tmp_path / "a", None, DataOptions(), told) is samples
    read = "the model reads the beginning only"
    if name == "answers":  # of which evaluation says that it reads windows
        read = "models are fused and trained on one part of each, and measured on all parts if there are answers"
    assert told.lines == [f"{samples.name}: 1 of 3 texts is longer than 24 tokens; {read}"]


def test_sources_and_targets_count(tmp_path: Path) -> None:
    model = T5ForConditionalGeneration(T5Config(**{**T5, "vocab_size": len(WORDS)}))
    samples, told = Dataset.from_dict({"source": [SHORT, LONG], "target": [LONG, LONG]}), KeptWarnings()
    evaluate(model, samples, processor=tokenizer(), progress=told)
    assert told.lines[0].endswith("3 of 4 texts are longer than 24 tokens; the model reads the beginning only")


def nllb(folder: Path) -> NllbTokenizer:
    words = SentencePieceBPETokenizer()
    words.train_from_iterator([LONG], 40, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], show_progress=False)
    found = json.loads(words._tokenizer.to_str())["model"]
    return NllbTokenizer(vocab=found["vocab"], merges=[*map(tuple, found["merges"])], src_lang="eng_Latn")


def m2m(folder: Path) -> M2M100Tokenizer:
    SentencePieceTrainer.train(
        sentence_iterator=iter([LONG]),
        model_prefix=str(folder / "words"),
        vocab_size=20,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    pieces = SentencePieceProcessor(model_file=str(folder / "words.model"))
    vocabulary = ["<s>", "<pad>", "</s>", "<unk>", *(pieces.id_to_piece(number) for number in range(3, len(pieces)))]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(vocabulary)}))
    return M2M100Tokenizer(str(folder / "vocab.json"), str(folder / "words.model"), src_lang="en")


@pytest.mark.parametrize("make", [nllb, m2m])
def test_targets_whose_language_is_not_known(make: Callable[[Path], Any], tmp_path: Path) -> None:
    """NLLB takes that of the sources, and M2M-100 stops."""
    samples, told, words = Dataset.from_dict({"source": [SHORT], "target": [SHORT]}), KeptWarnings(), make(tmp_path)
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    model = M2M100ForConditionalGeneration(M2M100Config(**{**BART, **ids, "vocab_size": 300}))
    if make is nllb:
        evaluate(model, samples, processor=words, progress=told)
        assert "(tgt_lang in tokenizer_config.json), so they are marked as eng_Latn, like the sources" in told.lines[0]
    else:
        with pytest.raises(CheckpointError, match=r"not say the language of the targets; set src_lang and tgt_lang in"):
            evaluate(model, samples, processor=words, progress=told)
        words.tgt_lang = "ro"
        evaluate(model, samples, processor=words, progress=told)
        assert told.lines == []


def test_captions_count_and_images_do_not(tmp_path: Path) -> None:
    folder, told = clip(tmp_path / "a", 1), KeptWarnings()
    rows = {"image": [Image.new("RGB", (8, 8))] * 2, "caption": [LONG, SHORT]}
    in_blocks(
        load_samples(Dataset.from_dict(rows)), CLIPModel.from_pretrained(folder), folder, None, DataOptions(), told
    )
    assert [line.partition(": ")[2] for line in told.lines] == [
        "1 of 2 texts is longer than 24 tokens; the model reads the beginning only"
    ]


def test_a_language_model_whose_tokenizer_cannot_cut_says_so(tmp_path: Path) -> None:
    words, told = ByT5Tokenizer(), KeptWarnings()
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(words), n_embd=8, n_layer=1, n_head=1, n_positions=32))
    evaluate(model, ["a short text", "a long text " * 9], processor=words, progress=told)
    assert [line.partition(": ")[2] for line in told.lines] == [
        "1 of 2 texts is longer than 32 tokens; the model reads the beginning only"
    ]


def test_a_masked_language_model_with_a_slow_tokenizer_is_measured(tmp_path: Path) -> None:
    """Tokenizers of proteins are slow, for example."""
    (tmp_path / "vocab.txt").write_text("\n".join(["<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSE", "<mask>"]))
    words, told = EsmTokenizer(str(tmp_path / "vocab.txt")), KeptWarnings()
    sizes = {"vocab_size": 11, "mask_token_id": 10, "max_position_embeddings": 34}  # positions begin behind padding
    model = EsmForMaskedLM(EsmConfig(**{**ESM, **sizes}))
    measured = evaluate(model, ["LAGVSE", "LAGVSE" * 9], processor=words, progress=told)
    assert len(measured.models) == 1
    assert told.lines[0].endswith("1 of 2 texts is longer than 32 tokens; the model reads the beginning only")


@pytest.mark.parametrize("build", [BertForSequenceClassification, BertModel])
def test_only_language_models_have_blocks(build: Callable[..., Any], tmp_path: Path) -> None:
    model = build.from_pretrained(bert(tmp_path / "a", build, 0))
    with pytest.raises(ConfigError, match=r"block_size: Bert\w+ is not a language model, so its samples are not cut"):
        in_blocks(load_samples([SHORT]), model, tmp_path / "a", None, DataOptions(block_size=8), KeptWarnings())


def test_blocks_are_not_counted_as_cut(tmp_path: Path) -> None:
    model, told = AutoModelForCausalLM.from_pretrained(saved(tmp_path / "a", gpt2, 1)), KeptWarnings()
    in_blocks(load_samples(["number 1 " * 20, "number 2"]), model, tmp_path / "a", None, DataOptions(), told)
    assert told.lines == ["1 of 2 texts is longer than 12 tokens; it is cut into blocks"]
