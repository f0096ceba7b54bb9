"""Models with more blocks than the anchor give some up, and are fused into its shape."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import CASES
from kept_warnings import KeptWarnings
from languages import TEXTS, gpt2, llama, saved
from transformers import PreTrainedModel

import transfuse
from transfuse.base.batch import Batch
from transfuse.base.progress import silent
from transfuse.data.processors import model_processor
from transfuse.distillation.validation import BatchSplit
from transfuse.errors import ConfigError
from transfuse.evaluation.samples import measured_samples
from transfuse.fusion.sizes import anchor_sizes, smaller
from transfuse.fusion.sizes.block_order import has_in_order, has_places, same_kind
from transfuse.fusion.sizes.idle_blocks import with_idle_blocks
from transfuse.merging.training import learning
from transfuse.network.model import Network
from transfuse.network.sizes import Sizes
from transfuse.report.measure import measure

FITTED = {"merge": "least-squares", "device": "cpu"}


def outputs(model: PreTrainedModel) -> torch.Tensor:
    inputs = torch.arange(3, 19).reshape(2, 8) % model.config.vocab_size
    with torch.no_grad():
        return model(input_ids=inputs).logits


@pytest.fixture
def pair(tmp_path: Path) -> list[Path]:
    return [saved(tmp_path / "shallow", gpt2, 1), saved(tmp_path / "deep", partial(gpt2, n_layer=4), 2)]


@pytest.mark.parametrize("family", [gpt2, llama], ids=["gpt2", "llama"])
def test_blocks_that_do_nothing_are_given_up(tmp_path: Path, family: object) -> None:
    """So the source is a copy of the anchor, and the fused model computes what the anchor does."""
    shallow = saved(tmp_path / "shallow", family, 1)
    model = transfuse.checkpoint.reading.load.load_model(shallow)
    deep = tmp_path / "deep"
    saved(deep, family, 1)  # with its tokenizer
    with_idle_blocks(model, 4, [0, 2]).save_pretrained(deep)
    told = KeptWarnings()
    fusion = transfuse.fuse([shallow, deep], TEXTS, progress=told, align="exact", **FITTED)
    assert fusion.record["resized"] == told.lines
    assert told.lines == [
        f"{deep}: has 4 blocks, the anchor has 2; it gives up blocks 1, 3 (from 0), and its layers are fitted to the"
        " samples"
    ]
    expected = outputs(model)
    assert (outputs(fusion.model) - expected).abs().max() < 2e-3 * expected.abs().max()


@pytest.mark.parametrize("merge", ["mean", "least-squares", "learned"])
def test_the_result_has_the_shape_of_the_anchor(pair: list[Path], tmp_path: Path, merge: str) -> None:
    steps = {"steps": 3} if merge == "learned" else {}
    fusion = transfuse.fuse(pair, TEXTS, device="cpu", merge=merge, **steps)
    out = fusion.save(tmp_path / "out")
    assert type(fusion.model).from_pretrained(out).config.n_layer == 2
    assert [model["path"] for model in fusion.record["models"]] == list(map(str, pair))


def test_generated_texts_tell_which_blocks_matter(pair: list[Path]) -> None:
    fusion = transfuse.fuse(pair, "generated", samples=20, **FITTED)
    assert "it gives up blocks" in fusion.record["resized"][0]


def test_the_deeper_model_teaches(pair: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Learned weights get the predictions of the whole model."""
    teachers: list[int] = []
    init = transfuse.merging.training.learning.WeightDistillation.__init__

    def spy(
        self: object, fused: PreTrainedModel, parents: list[PreTrainedModel], *rest: object, **named: object
    ) -> None:
        teachers.extend(parent.config.n_layer for parent in parents)
        init(self, fused, parents, *rest, **named)

    monkeypatch.setattr("transfuse.merging.training.learning.WeightDistillation.__init__", spy)
    transfuse.fuse(pair, TEXTS, device="cpu", merge="learned", steps=1)
    assert teachers == [2, 4]


def texts_of(batches: Sequence[Batch]) -> set[tuple[int, ...]]:
    return {tuple(row) for batch in batches for row in batch["input_ids"].tolist()}


@pytest.mark.parametrize("merge", ["learned", "least-squares"])
def test_held_out_samples_are_not_fitted(pair: list[Path], monkeypatch: pytest.MonkeyPatch, merge: str) -> None:
    """All samples are fitted if nothing is learned."""
    seen: list[set[tuple[int, ...]]] = []
    held_out: set[tuple[int, ...]] = set()
    fit, divide = smaller.fitted, learning.split_with_answers

    def spy(large: Network, sizes: Sizes, parts: BatchSplit, *rest: Any) -> Any:
        seen.append(texts_of([*parts[0], *parts[1]]))
        return fit(large, sizes, parts, *rest)

    def spy_on_validation(*given: Any) -> BatchSplit:
        parts = divide(*given)
        held_out.update(texts_of(parts[1]))
        return parts

    monkeypatch.setattr(smaller, "fitted", spy)
    monkeypatch.setattr(learning, "split_with_answers", spy_on_validation)
    transfuse.fuse(pair, TEXTS, device="cpu", merge=merge, **{"steps": 1} if merge == "learned" else {})
    assert len(seen) == 1
    assert not seen[0] & held_out
    assert len(seen[0]) + len(held_out) == len(set(TEXTS))


def test_an_interrupted_run_takes_the_blocks_from_its_cache(
    pair: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = transfuse.fuse(pair, TEXTS, cache=tmp_path / "cache", **FITTED).model.state_dict()
    monkeypatch.setattr("transfuse.shrinking.small_model.choose_blocks", None)
    again = transfuse.fuse(pair, TEXTS, cache=tmp_path / "cache", **FITTED).model.state_dict()
    for name, values in first.items():
        assert torch.equal(values, again[name]), name


def test_without_samples_nothing_tells_which_blocks_matter(pair: list[Path]) -> None:
    with pytest.raises(ConfigError, match="has 4 blocks, the anchor has 2; give --data, which tells"):
        transfuse.fuse(pair, device="cpu")


def test_models_of_a_base_are_not_cut(pair: list[Path]) -> None:
    with pytest.raises(ConfigError, match="has 4 blocks, the anchor has 2; put it first"):
        transfuse.fuse(pair, TEXTS, base=pair[0], merge="ties", device="cpu")


def test_kinds_of_blocks_stay_in_order() -> None:
    case = next(case for case in CASES if case.name == "Gemma2ForCausalLM")
    deep, shallow = (case.build(1, num_hidden_layers=count).config for count in (6, 2))
    allowed = same_kind(deep, shallow, 6, 2)
    assert deep.layer_types[:2] == shallow.layer_types
    assert has_in_order(allowed, [0, 1, 4])
    assert has_in_order(allowed, [2, 5])
    assert not has_in_order(allowed, [1, 2])
    assert not has_in_order(allowed, [0, 2, 4])
    assert has_places(same_kind(shallow, deep, 2, 6))


def test_the_whole_model_is_measured(pair: list[Path]) -> None:
    matched = transfuse.match(pair, TEXTS, **FITTED)
    fusion = transfuse.merge(matched)
    samples = measured_samples(TEXTS, matched.options, "GPT2LMHeadModel", matched.anchor.config)
    found = measure(matched, fusion.model, samples, silent, brief=True)
    expected = transfuse.evaluate(pair[1], TEXTS, device="cpu")
    (whole,) = expected.models.values()
    assert found.rows[1].metrics.loss == pytest.approx(whole.metrics.loss, rel=1e-5)


def test_the_card_says_which_blocks_were_given_up(pair: list[Path], tmp_path: Path) -> None:
    fusion = transfuse.fuse(pair, TEXTS, **FITTED)
    card = (fusion.save(tmp_path / "out") / "README.md").read_text(encoding="utf-8")
    assert "* Sizes: <code>deep</code> has 4 blocks, the anchor has 2; it gives up blocks" in card


@pytest.mark.parametrize("loaded", [(True, True), (False, True), (True, False)], ids=["both", "deep", "shallow"])
def test_loaded_models_and_paths_can_be_mixed(
    pair: list[Path], loaded: tuple[bool, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks are chosen once, also for models that are in memory."""
    calls: list[str] = []
    original = anchor_sizes.smaller
    monkeypatch.setattr(anchor_sizes, "smaller", lambda *given: calls.append(given[2]) or original(*given))
    load = transfuse.checkpoint.reading.load.load_model
    shallow, deep = (load(path) if each else path for path, each in zip(pair, loaded, strict=True))
    processor = model_processor(pair[0], load(pair[0]), None)
    fused = transfuse.fuse([shallow, deep], TEXTS, processor=processor, **FITTED)
    assert fused.model.config.n_layer == 2
    assert len(calls) == 1
    if not loaded[0]:
        deeper = transfuse.fuse([deep, shallow], TEXTS, processor=processor, **FITTED)
        assert deeper.model.config.n_layer == 4
