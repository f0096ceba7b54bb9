"""Fusing from file to file gives what fusing in memory gives, bit for bit; what cannot be streamed is said to be so."""

import json
from pathlib import Path

import pytest
import torch
from cases import CASES, HEADS
from checkpoints import edit_config
from comparisons import same_files, stored
from safetensors.torch import load_file, save_file

import transfuse
from transfuse.checkpoint.reading.lazy_tensors import tensor_locations
from transfuse.checkpoint.reading.load import load_empty, with_eager_experts
from transfuse.config.options import Options
from transfuse.errors import CheckpointError, ConfigError
from transfuse.fusion.planning.plan import Estimate
from transfuse.fusion.planning.streaming_choice import streaming_obstacle

VIT = CASES[0]


def saved(case, folder, seeds=(0, 1), dtype=torch.float32, **how):
    paths = []
    for seed in seeds:
        case.build(seed).to(dtype).save_pretrained(folder / f"{seed}", **how)
        paths.append(str(folder / f"{seed}"))
    return paths


@pytest.mark.parametrize("align", ["none", "flow", "exact"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_streaming_is_fusing_in_memory_bit_for_bit(tmp_path, case, align):
    models = saved(case, tmp_path)
    empty = [load_empty(path) for path in models]
    if streaming_obstacle(models, empty, empty, models, Options(align=align), False):
        assert tensor_locations(tmp_path / "0", case.build()) is None
        with pytest.raises(ConfigError, match="does not store all its tensors one by one"):
            transfuse.fuse(models, stream=True, align=align).save(tmp_path / "out")
        return
    transfuse.fuse(models, stream=True, align=align).save(tmp_path / "streamed")
    transfuse.fuse(models, align=align).save(tmp_path / "loaded")
    assert same_files(tmp_path / "streamed", tmp_path / "loaded")
    reloaded = with_eager_experts(case.architecture.from_pretrained(tmp_path / "streamed"))
    assert torch.isfinite(case.logits(reloaded.double())).all()


def test_buffers_are_merged_too(tmp_path):
    """A bias of the logits that no training changes."""
    case = next(case for case in CASES if case.name == "BartForConditionalGeneration")
    models = [case.build(seed).float() for seed in (0, 1)]
    for seed, model in enumerate(models):
        model.final_logits_bias.fill_(1.0 + 2 * seed)
        model.save_pretrained(tmp_path / f"{seed}")
    transfuse.fuse([str(tmp_path / f"{seed}") for seed in (0, 1)], stream=True).save(tmp_path / "streamed")
    transfuse.fuse(models).save(tmp_path / "loaded")
    assert same_files(tmp_path / "streamed", tmp_path / "loaded")
    assert torch.equal(stored(tmp_path / "loaded")["final_logits_bias"], torch.full((1, 31), 2.0))


def test_shards_names_and_precision_are_the_anchors(tmp_path):
    """In several files, in half precision, an old checkpoint's names: as they were."""
    one, two = saved(VIT, tmp_path, dtype=torch.bfloat16, max_shard_size="10KB")
    transfuse.fuse([one, two], stream=True, align="exact").save(tmp_path / "out")
    files = sorted(file.name for file in (tmp_path / "0").glob("model*"))
    assert len(files) > 3
    assert sorted(file.name for file in (tmp_path / "out").glob("model*")) == files
    assert {values.dtype for values in stored(tmp_path / "out").values()} == {torch.bfloat16}
    transfuse.fuse([one, two], align="exact").save(tmp_path / "loaded")
    assert same_files(tmp_path / "out", tmp_path / "loaded")
    transfuse.fuse([one, two], stream=True, align="exact", dtype="float32").save(tmp_path / "wider")
    assert {values.dtype for values in stored(tmp_path / "wider").values()} == {torch.float32}


def test_an_encoder_of_sentence_transformers_whose_configuration_names_a_class_with_a_head(tmp_path):
    case = next(case for case in HEADS if case.name == "LlamaModel")
    models = saved(case, tmp_path)
    for model in models:
        edit_config(Path(model), architectures=["LlamaForCausalLM"])
        (Path(model) / "modules.json").write_text("[]")
    transfuse.fuse(models, stream=True).save(tmp_path / "streamed")
    transfuse.fuse(models).save(tmp_path / "loaded")
    assert same_files(tmp_path / "streamed", tmp_path / "loaded")


def test_a_number_that_is_none_is_found_when_it_is_read(tmp_path):
    one, two = saved(VIT, tmp_path)
    file = tmp_path / "1" / "model.safetensors"
    tensors = load_file(file)
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(CheckpointError, match="NaN"):
        transfuse.fuse([one, two], stream=True, align="exact").save(tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"0", "1"}


@pytest.mark.parametrize("name", ["model-00001-of-00001.safetensors", "weights.safetensors"])
def test_one_file_of_another_name_keeps_its_index(tmp_path, name):
    paths = saved(VIT, tmp_path)
    for path in map(Path, paths):
        (path / "model.safetensors").rename(path / name)
        weights = dict.fromkeys(load_file(path / name), name)
        (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    transfuse.fuse(paths, stream=True).save(tmp_path / "out")
    transfuse.fuse(paths).save(tmp_path / "loaded")
    assert same_files(tmp_path / "out", tmp_path / "loaded")


@pytest.mark.parametrize("streamed", [False, True])
def test_weights_that_a_precision_cannot_hold_are_refused(tmp_path, streamed):
    paths = []
    for seed in (0, 1):
        model = VIT.build(seed).float()
        with torch.no_grad():
            model.classifier.weight[0] = 1e5
        model.save_pretrained(tmp_path / str(seed))
        paths.append(tmp_path / str(seed))
    columns = model.classifier.weight.shape[1]
    message = (
        rf"^classifier.weight: {columns} values are too large for float16; choose --dtype bfloat16 or float32 \(in"
    )
    with pytest.raises(ConfigError, match=message):
        transfuse.fuse(paths, align="none", dtype="float16", stream=streamed).save(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    transfuse.fuse(paths, align="none", dtype="bfloat16", stream=streamed).save(tmp_path / "out")


def test_what_needs_loaded_models_is_not_streamed(tmp_path):
    models = saved(VIT, tmp_path)
    with pytest.raises(ConfigError, match="stream: models must be loaded, because --vocab anchor reorders tokens"):
        transfuse.fuse(models, vocab="anchor", stream=True)
    with pytest.raises(ConfigError, match="because a model is in memory already"):
        transfuse.fuse([VIT.build(0), models[1]], stream=True)


def test_a_limit_decides_in_python_too(tmp_path):
    """A limit between both estimates streams; the fused model is the same, and can be had in memory."""
    models = saved(VIT, tmp_path)
    estimate = Estimate([load_empty(path) for path in models], Options())
    limit = (estimate.streamed_bytes + estimate.loaded_bytes) // 2
    streamed = transfuse.fuse(models, max_memory=limit)
    assert streamed.record["streamed"]
    loaded = transfuse.fuse(models, max_memory="100GB").model.state_dict()
    assert all(torch.equal(values, loaded[name]) for name, values in streamed.model.state_dict().items())
    with pytest.raises(ConfigError, match="max_memory: fusing tensor by tensor takes about"):
        transfuse.fuse(models, max_memory=1000)
