"""The memory of a fusion with samples is predicted from headers and one sample, and checked before weights are read."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from datasets import Dataset
from pictures import processor_of
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, ViTConfig, ViTForImageClassification

import transfuse
from transfuse.base.batch import batch_size
from transfuse.base.progress import silent
from transfuse.checkpoint.reading.load import load_empty
from transfuse.config import options as options_module
from transfuse.config.options import Options
from transfuse.data import sample_budget
from transfuse.errors import ConfigError, DataError
from transfuse.fusion.planning.data_memory import check_data_memory
from transfuse.fusion.planning.parts import LARGE_BLOCK, MemoryParts, MemoryStage, large_blocks, with_freed_blocks
from transfuse.fusion.planning.plan import STARTUP_BYTES, Estimate
from transfuse.fusion.planning.samples import sample_sizes
from transfuse.fusion.planning.shape import ModelShape
from transfuse.fusion.planning.with_data import DataEstimate, data_estimate
from transfuse.merging.fitting.output_head import MAX_MATRIX_ENTRIES

HIDDEN = 2048
CANDIDATES = 2 * HIDDEN


def images(count: int) -> Dataset:
    noise = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), np.uint8)
    return Dataset.from_dict({"image": [Image.fromarray(pixels) for pixels in noise]})


@pytest.fixture(scope="module")
def vits(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two ViTs with few weights, whose hidden units have a large Gram matrix."""
    folder = tmp_path_factory.mktemp("vits")
    for seed in range(2):
        torch.manual_seed(seed)
        config = ViTConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=HIDDEN,
            image_size=8,
            patch_size=4,
        )
        ViTForImageClassification(config).save_pretrained(folder / str(seed))
        processor_of(config).save_pretrained(folder / str(seed))
    return [folder / "0", folder / "1"]


@pytest.fixture(scope="module")
def llamas(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two Llamas with a tokenizer of whole words."""
    folder = tmp_path_factory.mktemp("llamas")
    words = Tokenizer(models.WordLevel({f"w{number}": number for number in range(64)}, unk_token="w1"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0", unk_token="w1", eos_token="w2")
    for seed in range(2):
        torch.manual_seed(seed)
        config = LlamaConfig(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, vocab_size=64,
            max_position_embeddings=32, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        )  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(folder / str(seed))
        tokenizer.save_pretrained(folder / str(seed))
    return [folder / "0", folder / "1"]


def estimate(paths: list[Path], data: Any, **options: Any) -> DataEstimate:
    found = data_estimate(Estimate([load_empty(path) for path in paths], Options(**options)), False, paths[0], data)
    assert found is not None
    return found


def test_sizes_of_images_and_texts(vits: list[Path], llamas: list[Path]) -> None:
    """Images have patches and a class token; texts are as long as the longest, and shorter on average."""
    pixels = sample_sizes(images(7), vits[0], load_empty(vits[0]), Options(samples=6))
    assert pixels is not None
    assert (pixels.count, pixels.tokens, pixels.answers, pixels.sample_bytes) == (6, 5, 1, 4 * 3 * 8 * 8)
    assert (pixels.all_tokens, pixels.batch_tokens, pixels.fitted_at_once) == (30, 30, 2)
    data = Dataset.from_dict({"text": ["w3 " * 10, "w4 " * 20]})
    texts = sample_sizes(data, llamas[0], load_empty(llamas[0]), Options())
    assert texts is not None
    assert (texts.count, texts.tokens, texts.answers, texts.all_tokens) == (2, 20, 19, 30)


@pytest.mark.parametrize(("texts", "drawn"), [(60, 5), (3, 3)])
def test_a_plan_counts_the_texts_that_training_can_read(
    texts: int, drawn: int, llamas: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a slow processor, a fusion draws fewer texts than there are, but never fewer than a least number."""
    monkeypatch.setattr(options_module, "AUTO_MERGE", "learned")
    monkeypatch.setattr(sample_budget, "CPU_FLOPS", 1.0)
    monkeypatch.setattr(sample_budget, "MIN_SAMPLES", 5)
    data = Dataset.from_dict({"text": [f"w3 w{number} " * 5 for number in range(texts)]})
    planned = sample_sizes(data, llamas[0], load_empty(llamas[0]), Options(device="cpu", effort="quick"))
    matched = transfuse.match(llamas, data, device="cpu", effort="quick")
    assert planned is not None
    assert planned.count == sum(map(batch_size, matched.context.batches)) == drawn


def test_samples_that_are_not_read_have_no_estimate(vits: list[Path]) -> None:
    options = Options(merge="mean", match_on="weights")
    assert data_estimate(Estimate([load_empty(path) for path in vits], options), False, vits[0], images(2)) is None
    with pytest.raises(DataError):
        data_estimate(
            Estimate([load_empty(path) for path in vits], Options()), False, vits[0], Dataset.from_dict({"text": ["w"]})
        )


def test_the_shape_of_a_model(llamas: list[Path]) -> None:
    shape = ModelShape.of(load_empty(llamas[0]))
    model = LlamaForCausalLM.from_pretrained(llamas[0])
    assert shape.weight_bytes == sum(values.nbytes for values in model.parameters())
    assert (shape.blocks, shape.width, shape.hidden, shape.classes) == (2, 16, 24, 64)
    assert shape.block_outputs == 4 * 16 + 2 * 24 + 16
    assert (shape.stage_outputs, shape.stage_maps) == (48, 3)
    assert shape.head_entries == 16 * 64
    assert shape.fits_head
    assert not replace(shape, head_entries=MAX_MATRIX_ENTRIES + 1).fits_head
    assert not replace(shape, classes=0).fits_head


def test_every_stage_is_the_sum_of_its_parts(vits: list[Path]) -> None:
    fitted = estimate(vits, images(10), merge="least-squares")
    names = [stage.name for stage in fitted.stages]
    assert names == [
        "aligning", "weighting tokens", "fitting layers", "selecting units", "fitting the head", "writing",
    ]  # fmt: skip
    selection = fitted.stages[3].parts
    assert selection.program == STARTUP_BYTES
    assert 2 * 8 * CANDIDATES**2 < selection.statistics < 3 * 8 * CANDIDATES**2
    assert fitted.peak.name == "selecting units"
    plan = fitted.plan()
    assert plan.host_bytes == sum(vars(plan.parts).values())
    assert plan.least_bytes < plan.host_bytes
    assert plan.device_bytes is None


def test_training_adds_its_state(vits: list[Path]) -> None:
    changes = ({"effort": "quick"}, {"steps": 20})
    quick, learned = (estimate(vits, images(10), merge="learned", **options) for options in changes)
    state = {stage.name: stage.parts.training for stage in learned.stages}
    weights = learned.shape.weight_bytes
    assert state["fitting layers"] == 0
    assert state["training"] > 10 * weights
    assert [stage.name for stage in quick.stages].count("selecting units") == 1  # a fit to all samples takes no more
    mean = estimate(vits, images(10), merge="mean")
    assert "comparing alignments" in [stage.name for stage in mean.stages]
    flow = estimate(vits, images(10), align="flow", merge="mean")
    assert [stage.name for stage in flow.stages] == ["collecting activations", "aligning", "writing"]


def test_small_freed_blocks_remain() -> None:
    stages = [
        MemoryStage("a", MemoryParts(program=1, batches=9)),
        MemoryStage("b", MemoryParts(program=1, statistics=6), large=5),
    ]
    assert [stage.parts.total for stage in with_freed_blocks(stages)] == [10, 15]
    assert (large_blocks(LARGE_BLOCK, 2), large_blocks(LARGE_BLOCK - 1, 2)) == (2 * LARGE_BLOCK, 0)


def test_too_little_memory_is_refused_before_weights_are_read(vits: list[Path], tmp_path: Path) -> None:
    """The second model has weights that are not finite, which is an error as soon as they are read."""
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in vits[1].iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    tensors = load_file(broken / "model.safetensors")
    save_file(
        {name: values * torch.nan for name, values in tensors.items()}, broken / "model.safetensors", {"format": "pt"}
    )
    options = {"align": "none", "merge": "least-squares"}
    loaded = Estimate([load_empty(path) for path in vits], Options(**options)).loaded_bytes
    enough_for_weights = max(psutil.Process().memory_info().rss, loaded) + 2**20
    with pytest.raises(ConfigError, match="max_memory: fusing with 10 samples takes at least") as caught:
        transfuse.fuse([vits[0], broken], images(10), max_memory=enough_for_weights, **options)
    assert "\n" not in str(caught.value)
    with pytest.raises(transfuse.TransfuseError, match="finite"):
        transfuse.fuse([vits[0], broken], images(10), max_memory=enough_for_weights + 2**30, **options)


def test_a_limit_within_the_estimate_is_not_refused(vits: list[Path]) -> None:
    """Caches and batches shrink, so only what is needed in any case is refused; without a limit, there is a warning."""
    found = estimate(vits, images(10), merge="least-squares")
    rss = psutil.Process().memory_info().rss
    check_data_memory(found, rss + found.least_bytes + 2**24, silent.warn)
    warnings: list[str] = []
    vast = replace(found, samples=replace(found.samples, sample_bytes=2**50))
    check_data_memory(vast, None, warnings.append)
    assert len(warnings) == 1
    assert warnings[0].startswith("warning: fusing with 10 samples takes about")
    assert json.dumps(vars(found.plan().parts))
