"""Models whose tokenizer is a file of SentencePiece alone are fused in what `pip install` brings."""

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import BART, DEBERTA, T5
from datasets import Dataset
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from transformers import (
    DebertaV2Config,
    DebertaV2ForMaskedLM,
    MarianConfig,
    MarianMTModel,
    T5Config,
    T5ForConditionalGeneration,
)

import transfuse
from transfuse.data.text.saved_tokenizer import load_tokenizer
from transfuse.errors import TransfuseError

ENGLISH = ("the cat sat on the mat", "a dog ran in the park", "it was good and the sky was blue")
GERMAN = ("die Katze lag auf der Matte", "ein Hund lief im Park", "es war gut und der Himmel war blau")
DATA = Dataset.from_dict({"source": ENGLISH, "target": GERMAN})


def pieces(**settings: Any) -> bytes:
    """A trained model of SentencePiece."""
    file = BytesIO()
    limits = {"vocab_size": 60, "hard_vocab_limit": False, "minloglevel": 2}
    SentencePieceTrainer.train(sentence_iterator=iter(ENGLISH + GERMAN), model_writer=file, **limits, **settings)
    return file.getvalue()


def marian(folder: Path, order: int = 1) -> None:
    """Save a Marian; `order` is that of the words, -1 for the reverse."""
    proto = pieces()
    processor = SentencePieceProcessor(model_proto=proto)
    held = [processor.id_to_piece(index) for index in range(processor.get_piece_size())]
    words = ["</s>", "<unk>", *[word for word in held if not word.startswith("<")][::order], "<pad>"]
    pad = len(words) - 1
    ids = {"pad_token_id": pad, "decoder_start_token_id": pad, "bos_token_id": 0, "eos_token_id": 0}
    sizes = {**BART, **ids, "vocab_size": pad + 1, "max_position_embeddings": 24}
    MarianMTModel(MarianConfig(**sizes)).save_pretrained(folder)
    for name in ("source.spm", "target.spm"):
        (folder / name).write_bytes(proto)
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"source_lang": "en", "target_lang": "de"}))


def t5(folder: Path) -> None:
    T5ForConditionalGeneration(T5Config(**{**T5, "vocab_size": 80})).save_pretrained(folder)
    (folder / "spiece.model").write_bytes(pieces(pad_id=0, eos_id=1, unk_id=2, bos_id=-1))


def deberta(folder: Path) -> None:
    DebertaV2ForMaskedLM(DebertaV2Config(**{**DEBERTA, "vocab_size": 80})).save_pretrained(folder)
    symbols = {"control_symbols": "[PAD],[CLS],[SEP]", "user_defined_symbols": "[MASK]", "unk_piece": "[UNK]"}
    (folder / "spm.model").write_bytes(pieces(**symbols, bos_id=-1, eos_id=-1))


def saved(root: Path, build: Callable[[Path], None]) -> list[Path]:
    folders = [root / str(seed) for seed in range(2)]
    for seed, folder in enumerate(folders):
        torch.manual_seed(seed)
        build(folder)
    return folders


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
@pytest.mark.parametrize("data", [None, DATA], ids=["weights", "data"])
@pytest.mark.parametrize("build", [marian, t5, deberta])
def test_a_tokenizer_of_sentencepiece_is_read_and_copied(
    build: Callable[[Path], None], data: Dataset | None, tmp_path: Path
) -> None:
    models = saved(tmp_path, build)
    if data is not None and build is deberta:
        data = data.rename_column("source", "text")
    transfuse.fuse(models, data=data, align="exact", merge="mean").save(tmp_path / "out")
    own, copied = (load_tokenizer(folder)(ENGLISH[0])["input_ids"] for folder in (models[0], tmp_path / "out"))
    assert own == copied
    assert len(set(own)) > 5


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
def test_tokens_with_other_numbers_are_found_in_the_tokenizers_of_marian(tmp_path: Path) -> None:
    marian(tmp_path / "a")
    marian(tmp_path / "b", order=-1)
    with pytest.raises(TransfuseError, match="in 42 of 46 tokens"):
        transfuse.fuse([tmp_path / "a", tmp_path / "b"])
