"""A fusion with samples whose parents are mapped from files is that of loaded parents, bit for bit."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import BERT, VIT
from comparisons import stored
from datasets import Dataset
from languages import TEXTS, gpt2, llama, qwen3_moe, saved
from PIL import Image
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

import transfuse
from transfuse.config.options import Options
from transfuse.errors import ConfigError, OutputError
from transfuse.fusion.models.compatible import empty_model
from transfuse.fusion.planning.plan import Estimate
from transfuse.fusion.planning.streaming_choice import (
    loaded_bytes_with_data,
    mapped_bytes,
    needs_streaming,
    streaming_obstacle,
)

METHODS: dict[str, dict[str, Any]] = {
    "least squares": {"merge": "least-squares"},
    "exact, activations": {"merge": "mean", "align": "exact"},
    "flow, activations": {"merge": "mean", "align": "flow"},
    "none": {"align": "none", "merge": "least-squares"},
    "learned": {"merge": "learned", "steps": 3},
}


def vit(folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    ViTForImageClassification(ViTConfig(**VIT | {"num_channels": 3})).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 12, "width": 12}).save_pretrained(folder)
    return folder


def bert(words: int) -> PreTrainedModel:
    return BertForSequenceClassification(BertConfig(**{**BERT, "vocab_size": words}))


FAMILIES: dict[str, Callable[[Path, int], Path]] = {
    "vit": vit,
    "bert": lambda folder, seed: saved(folder, bert, seed),
    "gpt2": lambda folder, seed: saved(folder, gpt2, seed),
    "llama": lambda folder, seed: saved(folder, llama, seed),
    "qwen3-moe": lambda folder, seed: saved(folder, qwen3_moe, seed),
}


def samples(family: str, count: int = 20) -> Dataset:
    if family != "vit":
        rows = [TEXTS[row % len(TEXTS)] for row in range(count)]
        return Dataset.from_dict({"text": rows} | ({"label": [0, 1] * (count // 2)} if family == "bert" else {}))
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 12, 12, 3), generator=generator, dtype=torch.uint8)
    return Dataset.from_dict({"image": [Image.fromarray(each.numpy()) for each in pixels], "label": [0, 1] * 10})


def fused_both_ways(paths: list[str], data: Dataset, out: Path, **options: Any) -> dict[bool, dict[str, Any]]:
    """Fuse loaded and mapped models, check that the files are equal, and return both records."""
    records, models = {}, {}
    for stream in (False, True):
        fusion = transfuse.fuse(paths, data, stream=stream, **options)
        fusion.save(out / str(stream))
        records[stream] = fusion.record
        models[stream] = fusion.model.state_dict()
    assert all(torch.equal(values, models[True][name]) for name, values in models[False].items())
    loaded, mapped = stored(out / "False"), stored(out / "True")
    assert loaded.keys() == mapped.keys()
    for name, values in loaded.items():
        assert torch.equal(values, mapped[name]), name
        assert values.dtype == mapped[name].dtype
    return records


SLOW = [("bert", "learned"), ("gpt2", "learned"), ("vit", "learned")]
PAIRS = [
    pytest.param(family, method, marks=[pytest.mark.slow] if (family, method) in SLOW else [])
    for family in FAMILIES
    for method in METHODS
]


@pytest.mark.parametrize(("family", "method"), PAIRS)
def test_mapped_is_loaded_bit_for_bit(tmp_path: Path, family: str, method: str) -> None:
    paths = [str(FAMILIES[family](tmp_path / str(seed), seed)) for seed in (0, 1)]
    records = fused_both_ways(paths, samples(family), tmp_path, batch_size=5, **METHODS[method])
    assert "streamed" not in records[False]
    assert records[True]["streamed"] is True
    for key in ("alignments", "least_squares", "match_on", "merge", "calibration_samples"):
        assert records[True].get(key) == records[False].get(key), key


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("method", ["least squares", "exact, activations"])
def test_so_it_is_in_other_precisions_and_with_three(tmp_path: Path, method: str, dtype: torch.dtype) -> None:
    folders = [FAMILIES["llama"](tmp_path / str(seed), seed) for seed in (0, 1, 2)]
    for folder in folders:
        LlamaForCausalLM.from_pretrained(folder, dtype=dtype).save_pretrained(folder)
    fused_both_ways(list(map(str, folders)), samples("llama"), tmp_path, batch_size=5, **METHODS[method])


def test_the_precision_that_is_written_may_be_another(tmp_path: Path) -> None:
    folders = [FAMILIES["gpt2"](tmp_path / str(seed), seed) for seed in (0, 1)]
    for folder in folders:
        GPT2LMHeadModel.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
    fused_both_ways(list(map(str, folders)), samples("gpt2"), tmp_path, merge="mean", dtype="float32")


def test_a_limit_decides(tmp_path: Path) -> None:
    paths = [str(vit(tmp_path / str(seed), seed)) for seed in (0, 1)]
    estimate = Estimate([empty_model(path, Options()) for path in paths], Options())
    least, most = mapped_bytes(estimate), loaded_bytes_with_data(estimate)
    assert least < most
    assert needs_streaming(estimate, None, (least + most) // 2, has_data=True)
    assert not needs_streaming(estimate, None, most, has_data=True)
    assert not needs_streaming(estimate, "it is so", most, has_data=True)
    with pytest.raises(ConfigError, match="max_memory: fusing with --data, and weights mapped from files, takes about"):
        transfuse.fuse(paths, samples("vit"), max_memory=1000)


@pytest.mark.parametrize("align", ["exact", "flow"])
def test_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, align: str) -> None:
    """Neither of a run that ends, nor of one that fails, whether the folder is temporary or given."""
    paths = [str(vit(tmp_path / str(seed), seed)) for seed in (0, 1)]
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    fusion = transfuse.fuse(paths, samples("vit"), stream=True, align=align, merge="mean")
    fusion.save(tmp_path / "out")
    del fusion
    gc.collect()
    assert not list((tmp_path / "temporary").iterdir())
    monkeypatch.setattr("transfuse.fusion.match.aligned_base", _full_disk)
    for cache in (None, tmp_path / "cache"):
        with pytest.raises(OutputError, match="no space left"):
            transfuse.fuse(paths, samples("vit"), stream=True, align=align, merge="mean", cache=cache)
        gc.collect()
        assert not list((tmp_path / "temporary").iterdir())


def _full_disk(*_: object, **__: object) -> None:
    raise OutputError("no space left")


def test_what_cannot_be_mapped_is_named(tmp_path: Path) -> None:
    paths = [str(vit(tmp_path / str(seed), seed)) for seed in (0, 1)]
    models = [empty_model(path, Options()) for path in paths]
    assert streaming_obstacle(paths, models, models, paths, Options(), True) is None
    learned = Options(align="learned")
    assert streaming_obstacle(paths, models, models, paths, learned, True) == "--align learned trains on them"
    with pytest.raises(ConfigError, match="stream: models must be loaded, because --align learned trains on them"):
        transfuse.fuse(paths, samples("vit"), stream=True, align="learned")
