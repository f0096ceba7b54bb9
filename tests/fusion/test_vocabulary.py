"""Models whose tokenizers number tokens differently, or have tokens that the other lacks."""

from pathlib import Path

import pytest
import torch
from languages import gpt2, llama
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast, RobertaConfig, RobertaForMaskedLM

import transfuse
from transfuse.base.progress import silent
from transfuse.checkpoint.reading.load import load_model
from transfuse.cli.jobs.inspection import load_for_measurement
from transfuse.config.options import Options
from transfuse.errors import ConfigError, SpecError
from transfuse.fusion.models.vocabulary import recode, token_rows

SHARED = [f"w{number}" for number in range(20)]
WORDS = ["<end>", *SHARED, *(f"a{number}" for number in range(9))]
OTHER_WORDS = ["<end>", *(f"b{number}" for number in range(5)), *SHARED]
TEXTS = [" ".join(f"w{(row + 3 * place) % 20}" for place in range(6)) for row in range(12)]


def save(model: PreTrainedModel, words: list[str], folder: Path) -> Path:
    """Save a model with a tokenizer of whole words."""
    tokenizer = Tokenizer(WordLevel({word: row for row, word in enumerate(words)}, unk_token=words[0]))
    tokenizer.pre_tokenizer = Whitespace()
    special = {"pad_token": words[0], "unk_token": words[0], "eos_token": words[0]}
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special, model_max_length=8).save_pretrained(folder)
    return folder


def with_raised_logits(folder: Path, by: torch.Tensor) -> PreTrainedModel:
    """Return a GPT-2 that predicts the same: all logits change alike, and its positions undo it in the embeddings."""
    model = load_model(folder)
    with torch.no_grad():
        model.transformer.wte.weight += by
        model.transformer.wpe.weight -= by
        if not model.config.tie_word_embeddings:
            model.lm_head.weight += by
    return model


@pytest.mark.parametrize("tied", [True, False])
def test_tokens_that_the_source_lacks_have_its_mean_logit(tmp_path: Path, tied: bool) -> None:
    """A constant that is added to all logits of a model changes neither what it predicts nor what is made of it."""
    torch.manual_seed(0)
    a, b = (gpt2(len(words), tie_word_embeddings=tied) for words in (WORDS, OTHER_WORDS))
    torch.nn.init.ones_(b.transformer.ln_f.bias)
    a, b = save(a, WORDS, tmp_path / "a"), save(b, OTHER_WORDS, tmp_path / "b")
    by = torch.randn(load_model(b).config.n_embd) - 2
    c = save(with_raised_logits(b, by), OTHER_WORDS, tmp_path / "c")
    inputs = AutoTokenizer.from_pretrained(b)(TEXTS, return_tensors="pt")["input_ids"]
    before, after = (load_model(path)(inputs).logits for path in (b, c))
    assert (after - before).mean() < -20
    torch.testing.assert_close(after.log_softmax(-1), before.log_softmax(-1), rtol=0, atol=1e-4)

    inputs = AutoTokenizer.from_pretrained(a)(TEXTS, return_tensors="pt")["input_ids"]
    (rows,) = token_rows([a, b], [load_model(a), load_model(b)], "shared")
    parents = [recode(load_model(path), rows, load_model(a)).eval()(inputs).logits for path in (b, c)]
    torch.testing.assert_close(*(logits.log_softmax(-1) for logits in parents), rtol=0, atol=1e-4)
    mean = parents[0][..., rows >= 0].mean(-1, keepdim=True)
    torch.testing.assert_close(parents[0][..., rows < 0], mean.expand(*mean.shape[:-1], int((rows < 0).sum())))
    fused = [transfuse.fuse([a, source], vocab="shared", align="none").model(inputs).logits for source in (b, c)]
    torch.testing.assert_close(*(logits.log_softmax(-1) for logits in fused), rtol=0, atol=1e-4)


def test_roberta_counts_its_positions_from_its_own_padding(tmp_path: Path) -> None:
    paths = []
    for name, words in (("a", ["<s>", "<pad>", *SHARED]), ("b", ["<pad>", "<s>", *SHARED])):
        padding = words.index("<pad>")
        sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        config = RobertaConfig(**sizes, vocab_size=len(words), max_position_embeddings=20, pad_token_id=padding)
        paths.append(save(RobertaForMaskedLM(config), words, tmp_path / name))
    with pytest.raises(SpecError, match=f"{paths[1]}: pad_token_id is 0.*positions are counted"):
        transfuse.fuse(paths, vocab="shared")


def test_other_classes_are_told_before_other_tokenizers(tmp_path: Path) -> None:
    """Advice about rows would not help: no layer of a Llama is one of GPT-2."""
    torch.manual_seed(0)
    paths = save(gpt2(len(WORDS)), WORDS, tmp_path / "a"), save(llama(len(OTHER_WORDS)), OTHER_WORDS, tmp_path / "b")
    told = "is a LlamaForCausalLM, but the anchor is a GPT2LMHeadModel; give models of one class"
    for models in (paths, [load_model(path) for path in paths]):
        with pytest.raises(ConfigError, match=told):
            transfuse.fuse([*models])
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    with pytest.raises(ConfigError, match=told):
        load_for_measurement([*map(str, paths)], str(tmp_path / "texts.txt"), None, Options(), silent)
