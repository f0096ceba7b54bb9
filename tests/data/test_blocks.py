"""Long texts for language models are cut into blocks, not cut off."""

from itertools import pairwise
from pathlib import Path

import pytest
from cases import CASES
from datasets import Dataset
from kept_warnings import KeptWarnings
from languages import END, gpt2, llama, saved
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, AutoTokenizer, ByT5Tokenizer

from transfuse import evaluate, fuse
from transfuse.base.batch import IGNORED_LABEL
from transfuse.config.data_options import DataOptions
from transfuse.data.load import load_samples
from transfuse.data.text.blocks import in_blocks
from transfuse.data.text.texts import causal_preparer
from transfuse.errors import ConfigError

LONG = "number 3 follows number 4 and number 1 follows number 2, and so on " * 3


def tokens(tokenizer, text: str) -> int:
    return len(tokenizer(text)["input_ids"])


@pytest.mark.parametrize(("build", "block_size"), [(gpt2, None), (llama, None), (gpt2, 5)])
def test_nothing_of_a_long_text_is_lost(build, block_size, tmp_path: Path) -> None:
    folder = saved(tmp_path / "a", build, 1)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    length = block_size or min(tokenizer.model_max_length, model.config.max_position_embeddings)
    first, last = "number 1 follows number 2", "number 2 follows number 1"
    samples, told = load_samples(Dataset.from_dict({"text": [first, LONG, last]})), KeptWarnings()
    cut = in_blocks(samples, model, folder, None, DataOptions(block_size=block_size), told)
    texts = cut.inputs(range(len(cut)))
    assert "".join(texts[1:-1]).strip() == LONG.strip()
    assert (texts[0], texts[-1]) == (first, last)
    assert list(cut.rows) == [0, *[1] * (len(texts) - 2), 2]
    assert max(tokens(tokenizer, text) for text in texts) <= length + 1  # tokens can differ at the ends of a block
    assert told.lines == [f"1 of 3 texts is longer than {length} tokens; it is cut into blocks"]


def test_short_texts_and_other_models_are_left_alone(tmp_path: Path) -> None:
    folder = saved(tmp_path / "a", gpt2, 1)
    model = AutoModelForCausalLM.from_pretrained(folder)
    samples, told = load_samples(Dataset.from_dict({"text": ["number 1", "number 2"]})), KeptWarnings()
    short = in_blocks(samples, model, folder, None, DataOptions(), told)
    assert short.inputs([0, 1]) == ["number 1", "number 2"]
    classifier = CASES[0].build(1)
    assert in_blocks(samples, classifier, folder, None, DataOptions(), told) is samples
    assert not told.lines


@pytest.mark.parametrize("build", [gpt2, llama])
def test_short_texts_are_packed_into_blocks_of_the_size_asked_for(build, tmp_path: Path) -> None:
    folder = saved(tmp_path / "a", build, 1)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    texts = [f"number {row % 5}" for row in range(20)]
    samples, told = load_samples(Dataset.from_dict({"text": texts})), KeptWarnings()
    packed = in_blocks(samples, model, folder, None, DataOptions(block_size=12), told)
    blocks = packed.inputs(range(len(packed)))
    ends = tokenizer.eos_token or tokenizer.sep_token or "\n\n"
    assert [text for block in blocks for text in block.split(ends)] == texts
    counts = [tokens(tokenizer, block) for block in blocks]
    assert max(counts) <= 12 < min(a + b for a, b in pairwise(counts))
    assert [texts[row] for row in packed.rows] == [block.split(ends)[0] for block in blocks]
    assert told.lines == [f"20 texts are packed into {len(packed)} blocks of at most 12 tokens"]


@pytest.mark.parametrize("build", [gpt2, llama])
def test_blocks_that_overlap_predict_every_token_once_in_context(build, tmp_path: Path) -> None:
    folder = saved(tmp_path / "a", build, 1)
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder, model_max_length=10**6)
    samples = load_samples(Dataset.from_dict({"text": [LONG, "number 1"]}))
    windows = in_blocks(samples, model, folder, None, DataOptions(block_size=8, stride=3))
    batch = causal_preparer(tokenizer, model.config)(windows.inputs(range(len(windows))))
    predicted = batch["labels"][batch["labels"] != IGNORED_LABEL].tolist()
    whole = tokenizer(LONG)["input_ids"]
    assert predicted == whole[1:] + tokenizer("number 1")["input_ids"][1:]
    counts = (batch["labels"] != IGNORED_LABEL).sum(1).tolist()
    assert counts[0] == 7
    assert set(counts[1:-2]) == {3}
    with pytest.raises(ConfigError, match="stride: 9 tokens are more than a block of 8"):
        in_blocks(samples, model, folder, None, DataOptions(block_size=8, stride=9))
    with pytest.raises(ConfigError, match=r"stride: .* is not a causal language model"):
        in_blocks(samples, CASES[0].build(1), folder, None, DataOptions(stride=9))


def test_tokens_that_the_tokenizer_adds_leave_room_for_a_text(tmp_path: Path) -> None:
    folder = saved(tmp_path / "a", llama, 1)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{END} $A", special_tokens=[(END, tokenizer.eos_token_id)]
    )
    samples = load_samples([LONG])
    for name, options in (("stride", DataOptions(stride=1)), ("block_size", DataOptions(block_size=1))):
        with pytest.raises(
            ConfigError, match=f"{name}: the tokenizer adds 1 token to each block, .*; give more than 1"
        ):
            in_blocks(samples, model, folder, tokenizer, options)
    assert len(in_blocks(samples, model, folder, tokenizer, DataOptions(stride=2))) > 1
    for options in (DataOptions(stride=2), DataOptions(block_size=8)):
        with pytest.raises(ConfigError, match="block_size and stride need a tokenizer that knows the places of its"):
            in_blocks(samples, model, folder, ByT5Tokenizer(), options)


def test_a_measurement_with_a_stride_counts_every_token(tmp_path: Path) -> None:
    folder = saved(tmp_path / "a", gpt2, 1)
    data = Dataset.from_dict({"text": [LONG]})
    plain = evaluate(folder, data, block_size=4).models[str(folder)].metrics
    strided = evaluate(folder, data, block_size=4, stride=2).models[str(folder)].metrics
    tokens_of = len(AutoTokenizer.from_pretrained(folder, model_max_length=10**6)(LONG)["input_ids"])
    assert strided.samples == tokens_of - 1 > plain.samples


def test_a_fusion_and_a_measurement_read_all_of_a_text(tmp_path: Path) -> None:
    a, b = (saved(tmp_path / str(seed), gpt2, seed) for seed in (1, 2))
    data = Dataset.from_dict({"text": [LONG, LONG]})
    record = fuse([a, b], data, merge="least-squares").record
    assert record["calibration_samples"] > 4
    whole = evaluate(a, data).models[str(a)].metrics.samples
    blocks = evaluate(a, data, block_size=4).models[str(a)].metrics.samples
    assert whole > 0.8 * 2 * (tokens(AutoTokenizer.from_pretrained(a, model_max_length=10**6), LONG) - 1)
    assert blocks < whole  # the first token of each block has no prediction
