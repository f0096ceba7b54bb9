"""Targets are tokenized in their own language, and the decoder starts as transformers lets it start."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import BART
from datasets import Dataset
from kinds import SENTENCES, WORDS, text, tokenizer
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertTokenizer,
    MarianConfig,
    MarianMTModel,
    MBart50Tokenizer,
    MBartConfig,
    MBartForConditionalGeneration,
    MBartTokenizer,
    PreTrainedModel,
)

import transfuse
from transfuse.data.text.sequences import sequence_preparer

SOURCES = [text(*sentence) for sentence in SENTENCES[:6]]
TARGETS = [" ".join(sentence[: 1 + row % 3]) for row, sentence in enumerate(SENTENCES[:6])]
DATA = Dataset.from_dict({"source": SOURCES, "target": TARGETS})
TARGET_WORDS = (*(f"{word}{end}" for word in WORDS for end in "ab"), *WORDS[:4:-1])  # more, and with other ids
PIECES = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((f"▁{word}", -3.0) for word in WORDS)]
MBART = {**BART, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "max_position_embeddings": 24}

Built = tuple[PreTrainedModel, Any]


def mbart(words: Callable[..., Any], start: int | None) -> Built:
    found = words(vocab=PIECES, src_lang="en_XX", tgt_lang="ro_RO")
    config = MBartConfig(**{**MBART, "vocab_size": len(found), "decoder_start_token_id": start})
    return MBartForConditionalGeneration(config), found


def bart() -> Built:
    config = BartConfig(**{**MBART, "vocab_size": len(WORDS), "pad_token_id": 0})
    return BartForConditionalGeneration(config), tokenizer()


class TwoVocabularies(BertTokenizer):
    """A tokenizer with other words, and more of them, for targets, as Marian may have."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(vocab={word: row for row, word in enumerate(WORDS)}, **settings)
        targets = BertTokenizer(vocab={word: row for row, word in enumerate([*WORDS[:5], *TARGET_WORDS])})
        self.backends = (self._tokenizer, targets._tokenizer)

    def _switch_to_input_mode(self) -> None:
        self._tokenizer = self.backends[0]

    def _switch_to_target_mode(self) -> None:
        self._tokenizer = self.backends[1]


def marian() -> Built:
    sizes = {"vocab_size": len(WORDS), "decoder_vocab_size": 5 + len(TARGET_WORDS), "pad_token_id": 0}
    config = MarianConfig(**{**MBART, **sizes}, share_encoder_decoder_embeddings=False, tie_word_embeddings=False)
    return MarianMTModel(config), TwoVocabularies()


BUILDERS: dict[str, Callable[[], Built]] = {
    "mBART": lambda: mbart(MBartTokenizer, None),
    "mBART-50": lambda: mbart(MBart50Tokenizer, 2),
    "BART": bart,
    "Marian": marian,
}


@pytest.mark.parametrize("name", BUILDERS)
def test_the_loss_is_that_of_transformers_by_labels_alone(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, words = BUILDERS[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape)
    model.save_pretrained(tmp_path / "model")
    model = type(model).from_pretrained(tmp_path / "model")  # which computes sinusoids anew
    losses = []
    for source, target in zip(SOURCES, TARGETS, strict=True):
        row = words(source, text_target=target, return_tensors="pt")
        labels = row["labels"]
        with torch.no_grad():
            loss = model(input_ids=row["input_ids"], attention_mask=row["attention_mask"], labels=labels).loss
        losses += [float(loss)] * labels.numel()
    entry = transfuse.evaluate(tmp_path / "model", DATA, batch_size=4, processor=words).records()[0]
    assert entry["samples"] == len(losses)
    assert entry["loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-4)


def test_a_fused_mbart_starts_as_the_configuration_of_the_anchor_says(tmp_path: Path) -> None:
    folders = []
    for seed, start in enumerate((None, 2)):  # which mBART reads only to generate
        torch.manual_seed(seed)
        model, words = mbart(MBartTokenizer, start)
        folders.append(tmp_path / str(seed))
        model.save_pretrained(folders[-1])
        words.save_pretrained(folders[-1])
    transfuse.fuse(folders, align="none", merge="mean").save(tmp_path / "fused")
    config = json.loads((tmp_path / "fused" / "config.json").read_text())
    assert config["decoder_start_token_id"] is None


def test_a_decoder_without_targets_starts_as_that_of_mbart() -> None:
    model, words = mbart(MBartTokenizer, None)
    batch = sequence_preparer(words, model.config)(SOURCES[:1])
    ids = batch["input_ids"]
    assert batch["decoder_input_ids"].tolist() == torch.cat([ids[:, -1:], ids[:, :-1]], 1).tolist()
    assert words.convert_ids_to_tokens(ids[0])[-1] == "en_XX"
