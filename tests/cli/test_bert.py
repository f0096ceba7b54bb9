"""BERTs from the command line: texts in, a checkpoint with its tokenizer out."""

import json
from pathlib import Path

import pytest
import torch
from checkpoints import edit_config
from cli_inputs import Run, by_path, one_line
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    BertTokenizerFast,
    PreTrainedModel,
)

from transfuse.checkpoint.reading.load import load_model

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{index}" for index in range(20))]
SIZES = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 16}


def bert(folder: Path, kind: type[PreTrainedModel], seed: int, width: int = 16) -> Path:
    torch.manual_seed(seed)
    kind(BertConfig(vocab_size=len(WORDS), hidden_size=width, **SIZES)).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    rows = [{"sentence": f"w{row % 20} w{row % 7} w{row % 3} of some length", "label": row % 2} for row in range(24)]
    (tmp_path / "texts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "texts.jsonl"


@pytest.mark.parametrize("kind", [BertForMaskedLM, BertForSequenceClassification])
@pytest.mark.parametrize("align", ["flow", "exact"])
def test_fused_measured_walked_and_tuned(kind, align, tmp_path: Path, texts: Path, run: Run) -> None:
    a, b = (bert(tmp_path / str(seed), kind, seed) for seed in (1, 2))
    fused = run("fuse", a, b, "-o", tmp_path / "fused", "--data", texts, "--align", align, "--json")
    assert fused.status == 0, fused
    assert json.loads(fused.out)["calibration_samples"] == 24
    assert BertTokenizerFast.from_pretrained(tmp_path / "fused").get_vocab().keys() == set(WORDS)
    measured = run("eval", tmp_path / "fused", a, "--data", texts, "--json")
    hidden = by_path(measured)[str(a)]["samples"]
    assert hidden == 24 if kind is BertForSequenceClassification else 5 < hidden < 60
    assert run("path", a, b, "--data", texts, "--align", align, "--points", 3).status == 0
    tuned = run("finetune", tmp_path / "fused", "--data", texts, "--teacher", b, "-o", tmp_path / "tuned")
    assert tuned.status == 0, tuned


def test_a_plain_text_file_will_do(tmp_path: Path, run: Run) -> None:
    a, b = (bert(tmp_path / str(seed), BertForMaskedLM, seed, width) for seed, width in ((1, 16), (2, 24)))
    (tmp_path / "book.txt").write_text("w1 w2 w3 w4 w5 w6\n" * 40)
    ran = run("fuse", a, b, "-o", tmp_path / "fused", "--data", tmp_path / "book.txt", "--align", "flow")
    assert ran.status == 0, ran
    assert BertForMaskedLM.from_pretrained(tmp_path / "fused").config.hidden_size == 16
    assert run("eval", tmp_path / "fused", "--data", tmp_path / "book.txt").status == 0


@pytest.mark.parametrize("names", [None, ["BertForPreTraining"]])
def test_an_encoder_whose_configuration_names_no_class_or_one_with_a_head(
    names: list[str] | None, tmp_path: Path, run: Run
) -> None:
    """As deberta-v3-base, and models of sentence-transformers."""
    models = [bert(tmp_path / str(seed), BertModel, seed) for seed in (1, 2)]
    for model in models:
        edit_config(model, architectures=names)
        (model / "modules.json").write_text("[]")
    for command in (("plan", *models), ("fuse", *models, "-o", tmp_path / "out", "--align", "none")):
        ran = run(*command)
        assert ran.status == 0, ran
    assert type(load_model(tmp_path / "out")) is BertModel


def test_words_with_other_numbers(tmp_path: Path, run: Run) -> None:
    """Refused with their count; or fused by the words they stand for, or kept as the anchor has them."""
    a, b = (bert(tmp_path / str(seed), BertForMaskedLM, seed) for seed in (1, 2))
    order = [*range(len(WORDS) - 2), len(WORDS) - 1, len(WORDS) - 2]
    model = BertForMaskedLM.from_pretrained(b)
    with torch.no_grad():  # the same model under another numbering
        model.get_input_embeddings().weight.copy_(model.get_input_embeddings().weight[order].clone())
        model.cls.predictions.bias.copy_(model.cls.predictions.bias[order].clone())
    c = tmp_path / "c"
    model.save_pretrained(c)
    (c / "vocab.txt").write_text("\n".join(WORDS[index] for index in order))
    BertTokenizerFast(str(c / "vocab.txt")).save_pretrained(c)
    told = ["'w18'", str(a), "2 of 25 tokens", "--vocab shared"]
    one_line(run("fuse", a, c, "-o", tmp_path / "out"), told)
    (tmp_path / "text.txt").write_text("w1 w2")
    one_line(run("path", a, c, "--data", tmp_path / "text.txt"), told)
    one_line(run("plan", a, c), told)
    assert run("plan", a, c, "--vocab", "anchor").status == 0

    for source, vocab, name in ((b, "same", "plain"), (c, "shared", "by word"), (c, "anchor", "kept")):
        ran = run("fuse", a, source, "-o", tmp_path / name, "--align", "none", "--vocab", vocab)
        assert ran.status == 0, ran
    plain, by_word, kept = (words_of(tmp_path / name) for name in ("plain", "by word", "kept"))
    torch.testing.assert_close(by_word, plain)
    torch.testing.assert_close(kept, words_of(a))
    (tmp_path / "texts.jsonl").write_text("".join(f'{{"text": "w{i} w{i + 1} w{i + 2}"}}\n' for i in range(12)))
    for index, more in enumerate((["--basis", "common"], ["--align", "learned", "--steps", 3])):
        given = ("--vocab", "anchor", "--data", tmp_path / "texts.jsonl", "--batch-size", 2, *more)
        ran = run("fuse", a, c, "-o", tmp_path / f"kept {index}", *given)
        assert ran.status == 0, ran
        torch.testing.assert_close(words_of(tmp_path / f"kept {index}"), words_of(a))


def words_of(folder: Path) -> torch.Tensor:
    return BertForMaskedLM.from_pretrained(folder).get_input_embeddings().weight.detach()


def test_words_that_only_one_knows(tmp_path: Path, run: Run) -> None:
    """They stay the anchor's, moved as the others are in the mean; the others' are left out."""
    a = bert(tmp_path / "a", BertForMaskedLM, 1)
    b = tmp_path / "b"
    more = [*WORDS[:-1], "new", "other"]
    torch.manual_seed(2)
    BertForMaskedLM(BertConfig(vocab_size=len(more), hidden_size=16, **SIZES)).save_pretrained(b)
    (b / "vocab.txt").write_text("\n".join(more))
    BertTokenizerFast(str(b / "vocab.txt")).save_pretrained(b)
    one_line(run("plan", a, b), [str(b), "its tokenizer differs", "fuse with --vocab shared"])
    merging = ("--base", a, "--merge", "ties")
    for ran in (run("plan", a, b, *merging), run("fuse", a, b, "-o", tmp_path / "out", *merging)):
        one_line(
            ran,
            [
                "its tokenizer differs",
                "merged with --base need one vocabulary; leave base out and choose --merge mean or",
            ],
        )
    one_line(
        run("plan", a, b, *merging, "--vocab", "shared"), ["--vocab: models merged with --base", "leave vocab or base"]
    )
    planned = run("plan", a, b, "--vocab", "shared", "--json")
    assert planned.status == 0, planned
    assert not json.loads(planned.out)["streams"]
    ran = run("fuse", a, b, "-o", tmp_path / "out", "--vocab", "shared")
    assert ran.status == 0, ran
    before, after = words_of(a), words_of(tmp_path / "out")
    assert after.shape == before.shape
    torch.testing.assert_close(after[-1] - before[-1], (after - before)[:-1].mean(0))
    assert not torch.allclose(after[5], before[5])


def test_texts_without_a_word(tmp_path: Path, run: Run) -> None:
    a, b = (bert(tmp_path / str(seed), BertForMaskedLM, seed) for seed in (1, 2))
    (tmp_path / "empty.jsonl").write_text('{"text": ""}\n' * 3)
    for command in (("eval", a), ("fuse", a, b, "-o", tmp_path / "out")):
        one_line(run(*command, "--data", tmp_path / "empty.jsonl"), ["all texts of column 'text' are empty"])


def test_tied_and_untied_do_not_fit(tmp_path: Path, run: Run) -> None:
    a, b = (bert(tmp_path / str(seed), BertForMaskedLM, seed) for seed in (1, 2))
    untied = BertForMaskedLM(BertConfig(vocab_size=len(WORDS), hidden_size=16, **SIZES, tie_word_embeddings=False))
    untied.save_pretrained(b)
    one_line(run("fuse", a, b, "-o", tmp_path / "out"), ["tie_word_embeddings"])


@pytest.mark.parametrize("part", ["head", "embeddings"])
def test_a_kept_part_is_the_anchors(part: str, tmp_path: Path, run: Run) -> None:
    """Tied or not, what belongs to the head stays with it, and words with the embeddings."""
    a, b = (bert(tmp_path / str(seed), BertForMaskedLM, seed) for seed in (1, 2))
    ran = run("fuse", a, b, "-o", tmp_path / "out", "--align", "flow", "--flow.keep", part)
    assert ran.status == 0, ran
    anchor, fused = (BertForMaskedLM.from_pretrained(folder).state_dict() for folder in (a, tmp_path / "out"))
    same = {name for name, values in anchor.items() if torch.equal(values, fused[name])}
    kept = {"head": ("cls.predictions.transform",), "embeddings": ("bert.embeddings.word", "cls.predictions.decoder.w")}
    moved = {"head": ("bert.embeddings.word",), "embeddings": ("cls.predictions.transform.dense.weight",)}
    assert {name for name in anchor if name.startswith(kept[part])} <= same
    assert not {name for name in anchor if name.startswith(moved[part])} & same


def test_no_tokenizer(tmp_path: Path, texts: Path, run: Run) -> None:
    a, b = (bert(tmp_path / str(seed), BertForMaskedLM, seed) for seed in (1, 2))
    for file in (*a.glob("tokenizer*"), *a.glob("vocab*")):
        file.unlink()
    one_line(run("fuse", a, b, "-o", tmp_path / "out", "--data", texts), ["has no tokenizer"])
    assert run("fuse", a, b, "-o", tmp_path / "out").status == 0
