"""Texts as batches: padding, cutting, hiding."""

import pytest
import torch
from cases import SIGLIP_TEXT
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertTokenizerFast, PreTrainedTokenizerFast, SiglipTextConfig, SiglipTextModel

from transfuse.base.batch import IGNORED_LABEL
from transfuse.data.tasks import task
from transfuse.data.text.questions import question_preparer
from transfuse.data.text.saved_tokenizer import load_tokenizer
from transfuse.data.text.texts import causal_preparer, masked_preparer, text_preparer
from transfuse.errors import CheckpointError

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{index}" for index in range(40))]
TEXTS = [" ".join(f"w{(3 * row + word) % 40}" for word in range(30 + row)) for row in range(8)]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "words.txt").write_text("\n".join(WORDS))
    BertTokenizerFast(str(tmp_path / "words.txt")).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def config(words: int = len(WORDS), length: int = 16) -> BertConfig:
    return BertConfig(vocab_size=words, max_position_embeddings=length)


def test_padded_to_the_longest_and_cut(folder):
    tokenizer = load_tokenizer(folder)
    batch = text_preparer(tokenizer, config())(["w1 w2", TEXTS[0]])
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (2, 16)
    assert batch["attention_mask"].sum(1).tolist() == [4, 16]


def test_hidden_tokens_are_the_labels_and_depend_on_the_texts_alone(folder):
    tokenizer = load_tokenizer(folder)
    batch, again = (masked_preparer(tokenizer, config(length=64))(TEXTS) for _ in range(2))
    assert all((batch[name] == again[name]).all() for name in batch)
    alone = masked_preparer(tokenizer, config(length=64))(TEXTS[3:4])["labels"]
    assert (batch["labels"][3, : alone.shape[1]] == alone).all()
    later = masked_preparer(tokenizer, config(length=64), lambda: 1)(TEXTS)
    assert (batch["labels"] != later["labels"]).any()
    plain = text_preparer(tokenizer, config(length=64))(TEXTS)
    hidden = batch["labels"] != IGNORED_LABEL
    assert 0.05 < hidden.sum() / plain["attention_mask"].sum() < 0.3
    assert (batch["labels"][hidden] == plain["input_ids"][hidden]).all()
    assert (batch["input_ids"] == plain["input_ids"])[~hidden].all()
    assert (batch["input_ids"][hidden] == tokenizer.mask_token_id).float().mean() > 0.5


def test_of_every_text_with_a_word_one_is_hidden(folder):
    batch = masked_preparer(load_tokenizer(folder), config())(["w1", "w2 w3", ""])
    assert (batch["labels"] != IGNORED_LABEL).any(1).tolist() == [True, True, False]


def test_tokens_shown_instead_of_hidden_ones_have_embeddings(folder):
    tokenizer = load_tokenizer(folder)
    tokenizer.add_tokens([f"added{index}" for index in range(200)])
    for epoch in range(10):
        batch = masked_preparer(tokenizer, config(length=64), lambda: epoch)(TEXTS)  # noqa: B023
        assert int(batch["input_ids"].max()) < len(WORDS)
    tokenizer.add_special_tokens({"mask_token": "<mask>"})
    with pytest.raises(CheckpointError, match="the model has 45 embeddings"):
        masked_preparer(tokenizer, config())(TEXTS)


def test_no_tokenizer_or_that_of_another_model(folder, tmp_path):
    with pytest.raises(CheckpointError, match="has no tokenizer"):
        load_tokenizer(tmp_path / "nowhere")
    prepare = text_preparer(load_tokenizer(folder), config(7))
    with pytest.raises(CheckpointError, match="the model has 7 embeddings"):
        prepare([" ".join(WORDS[5:])])


@pytest.mark.parametrize(("types", "expected"), [(2, True), (1, False), (0, False)])
def test_types_of_tokens_go_to_models_that_have_embeddings_of_them(types, expected, folder):
    tokenizer = load_tokenizer(folder)
    sizes = BertConfig(vocab_size=len(WORDS), type_vocab_size=types)
    assert ("token_type_ids" in text_preparer(tokenizer, sizes)([["w1", "w2"]])) is expected
    asked = [{"question": "w1", "context": "w2 w3"}]
    assert ("token_type_ids" in question_preparer(tokenizer, sizes)(asked)) is expected


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("preparer", [masked_preparer, text_preparer, causal_preparer])
def test_nothing_depends_on_what_stands_beside_a_text(folder, side, preparer):
    """Neither what is hidden of it, nor what is shown instead, nor its positions."""
    tokenizer = load_tokenizer(folder)
    tokenizer.padding_side = side
    prepare = preparer(tokenizer, config(length=64))
    alone, both = prepare(TEXTS[:1]), prepare([TEXTS[0], TEXTS[-1]])
    width = alone["input_ids"].shape[1]
    assert both["input_ids"].shape[1] > width
    for name, values in alone.items():
        assert (both[name][0, :width] == values[0]).all(), name
    assert tokenizer.padding_side == side


def test_an_empty_text_is_padding_whatever_stands_beside_it(folder):
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain_words(), pad_token="[PAD]", unk_token="[UNK]")
    prepare = text_preparer(tokenizer, config())
    assert prepare(["", "w1"])["attention_mask"].tolist() == [[0], [1]]
    alone = prepare([""])
    assert (alone["input_ids"].tolist(), alone["attention_mask"].tolist()) == ([[0]], [[0]])


def test_siglip_pools_the_last_position_and_gets_as_many_tokens_as_it_was_trained_with(folder):
    tokenizer = load_tokenizer(folder)
    tokenizer.model_max_length = 12
    torch.manual_seed(0)
    model = SiglipTextModel(SiglipTextConfig(**SIGLIP_TEXT | {"vocab_size": len(WORDS), "pad_token_id": 0})).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    prepare = task("SiglipTextModel").preparer(tokenizer, model.config)
    alone, beside = prepare(["w1 w2"]), prepare(["w1 w2", "w1 w2 w3 w4 w5"])
    assert alone["input_ids"].shape[1] == beside["input_ids"].shape[1] == 12
    torch.testing.assert_close(model(**alone).pooler_output[0], model(**beside).pooler_output[0])
    trained = {"input_ids": alone["input_ids"]}  # without a mask
    torch.testing.assert_close(model(**alone).pooler_output, model(**trained).pooler_output)


def plain_words() -> Tokenizer:
    """Whole words, nothing put around them."""
    found = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    found.pre_tokenizer = Whitespace()
    return found
