"""Maps between models as they are saved: in a symmetric copy, they give what the copy computes."""

from pathlib import Path

import pytest
import torch
from cases import CASES, Case
from safetensors.torch import save_file
from symmetric_copies import moved
from transformers import PreTrainedModel

import transfuse
from transfuse.alignment.exact.model_maps import ModelMaps, load_maps
from transfuse.errors import CheckpointError, ConfigError, OutputError
from transfuse.network.inputs import example_inputs
from transfuse.transport.maps import rotation

NAMES = ("ViTForImageClassification", "GPT2LMHeadModel", "LlamaForCausalLM", "BertForMaskedLM")
SHOWN = [next(case for case in CASES if case.name.startswith(name)) for name in NAMES]


def states(model: PreTrainedModel) -> list[torch.Tensor]:
    """The residual stream after every block but the last, whose output a norm may have changed."""
    with torch.no_grad():
        found = model(**example_inputs(model.config), output_hidden_states=True).hidden_states
    return [each.double() for each in found[1:-1]]


@pytest.mark.parametrize("case", SHOWN, ids=lambda case: case.name)
def test_hidden_states_of_a_symmetric_copy(case: Case, tmp_path: Path) -> None:
    source = case.build()
    anchor = moved(source)
    maps = transfuse.match([anchor, source]).maps()
    tmp_path.chmod(0o755)
    path = maps.save(tmp_path / "maps.safetensors")
    assert path.stat().st_mode & 0o777 == 0o644
    loaded = load_maps(path)
    assert loaded.facts["groups"] == maps.facts["groups"]
    probe = torch.randn(3, source.config.hidden_size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for given, expected in zip(states(source), states(anchor), strict=True):
        mapped = loaded.states(given)
        if loaded.facts["groups"]["stream"] == "centered orthogonal":  # norms remove the mean, which means nothing
            mapped, expected = (each - each.mean(-1, keepdim=True) for each in (mapped, expected))
        torch.testing.assert_close(mapped, expected, atol=1e-3 * float(expected.abs().max()), rtol=0)
        read = loaded.readers(probe)
        torch.testing.assert_close(loaded.states(given) @ read.T, given @ probe.T, atol=1e-6, rtol=1e-4)


def test_channels_of_values_between_saved_models() -> None:
    """Channels may be mixed by any matrix, and heads are exchanged: both are in the map."""
    case = SHOWN[0]
    source = case.build()
    anchor = moved(source)
    maps = transfuse.match([anchor, source]).maps()
    found = {}
    for name, model in (("source", source), ("anchor", anchor)):
        values = model.get_submodule("vit.layers.0.attention.v_proj")
        values.register_forward_hook(lambda _, __, output, name=name: found.update({name: output.detach().double()}))
        states(model)
    assert maps.facts["within"]["0.v"] == ["0.head"]
    heads, channels = maps.maps["0.head"].index, maps.maps["0.v"]
    split = {name: each.unflatten(-1, (len(heads), -1)) for name, each in found.items()}
    for head, original in enumerate(heads):
        mapped = split["source"][:, :, original] @ channels.forward[head].double()
        expected = split["anchor"][:, :, head]
        torch.testing.assert_close(mapped, expected, atol=1e-3 * float(expected.abs().max()), rtol=0)


def test_gated_hidden_units_between_saved_models(tmp_path: Path) -> None:
    """Hidden units are exchanged and scaled: their map has both."""
    source = SHOWN[2].build()
    anchor = moved(source)
    maps = load_maps(transfuse.match([anchor, source]).maps().save(tmp_path / "maps.safetensors"))
    found = {}
    for name, model in (("source", source), ("anchor", anchor)):
        reader = model.get_submodule("model.layers.0.mlp.down_proj")
        reader.register_forward_hook(lambda _, given, __, name=name: found.update({name: given[0].detach().double()}))
        states(model)
    mapped, expected = maps.states(found["source"], "0.hidden"), found["anchor"]
    torch.testing.assert_close(mapped, expected, atol=1e-3 * float(expected.abs().max()), rtol=0)
    probe = torch.randn(3, expected.shape[-1], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    read = maps.readers(probe, "0.hidden")
    torch.testing.assert_close(mapped @ read.T, found["source"] @ probe.T, atol=1e-6, rtol=1e-4)


def test_what_has_no_such_maps_is_refused(tmp_path: Path) -> None:
    case = SHOWN[0]
    models = [case.build(seed) for seed in (1, 2, 3)]
    with pytest.raises(ConfigError, match="two models"):
        transfuse.match(models).maps()
    with pytest.raises(ConfigError, match="only align exact"):
        transfuse.match(models[:2], align="none").maps()
    maps = transfuse.match(models[:2]).maps()
    with pytest.raises(ConfigError, match="known: "):
        maps.states(torch.zeros(2, 4), "steam")
    with pytest.raises(ConfigError, match="entries"):
        maps.states(torch.zeros(2, 3))
    (tmp_path / "other.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_maps(tmp_path / "other.safetensors")


def test_values_and_paths_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    """Integers would be multiplied with a map of integers, which is zero almost everywhere."""
    maps = ModelMaps({"stream": rotation(torch.linalg.qr(torch.randn(4, 4))[0])}, {})
    for mapped in (maps.states, maps.readers):
        with pytest.raises(ConfigError, match=r"stream: the values are torch.int64, .* values.float\(\)"):
            mapped(torch.arange(4))
        with pytest.raises(ConfigError, match="stream: the values are a single number; give 4"):
            mapped(torch.tensor(1.0))
    for use in (maps.save, load_maps):
        with pytest.raises(ConfigError, match="path: None is not a path"):
            use(None)
    missing = tmp_path / "missing" / "maps.safetensors"
    with pytest.raises(OutputError, match=r"missing/maps.safetensors: cannot be written \(No such file or dir"):
        maps.save(missing)


@pytest.mark.parametrize("shape", [(0, 4), (3, 0, 4), (4,)], ids=str)
def test_no_samples_are_mapped_to_none(shape: tuple[int, ...]) -> None:
    maps = ModelMaps({"stream": rotation(torch.eye(4))}, {})
    for mapped in (maps.states, maps.readers):
        assert mapped(torch.zeros(shape)).shape == shape


def test_files_that_hold_no_maps(tmp_path: Path) -> None:
    for folder in (tmp_path, ""):
        with pytest.raises(CheckpointError, match="is a folder; give the safetensors file"):
            load_maps(folder)
    file = tmp_path / "maps.safetensors"
    half, facts = {"stream.forward": torch.eye(4)}, {"facts": "{}"}
    for tensors, metadata, message in (
        (half, facts, "holds no maps"),
        (half, facts | {"format": "transfuse maps 2"}, r"a newer version of transfuse wrote it \(transfuse maps 2\)"),
        (half, facts | {"format": "transfuse maps 1"}, "its maps are incomplete"),
        (half | {"stream.backward": torch.eye(4)}, {"format": "transfuse maps 1"}, "its maps are incomplete"),
        (half | {"stream.backward": torch.eye(4)}, {"format": "transfuse maps 1", "facts": "{"}, "are incomplete"),
    ):
        save_file(tensors, file, metadata)
        with pytest.raises(CheckpointError, match=message):
            load_maps(file)
