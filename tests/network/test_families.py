"""What is said of the families is true of all of them."""

from dataclasses import fields
from pathlib import Path

import pytest
import transformers

from transfuse.errors import SpecError
from transfuse.network.families import FAMILIES, declare
from transfuse.network.symmetry import symmetric

PAGE = Path(__file__).parents[2] / "docs" / "families.md"


def test_the_page_names_every_class():
    page = PAGE.read_text()
    ours = [name for name in FAMILIES if hasattr(transformers, name)]  # other tests may have registered their own
    assert [name for name in ours if f"`{name}`" not in page] == []


@pytest.mark.parametrize("name", ["Mistral", "Qwen2", "Olmo2", "Gemma2"])
@pytest.mark.parametrize("note", ["attention_bias", "mlp_bias"])
def test_a_note_that_a_class_does_not_read_declares_nothing(name, note):
    config = getattr(transformers, f"{name}Config")
    if note in {field.name for field in fields(config)}:
        pytest.skip("the class reads it")
    plain, noted = (declare(config(num_hidden_layers=1, **given), f"{name}ForCausalLM") for given in ({}, {note: True}))
    assert plain.tensors() == noted.tensors()


@pytest.mark.parametrize("name", ["StableLm", "Phi"])
def test_a_head_dim_that_a_class_does_not_read_declares_nothing(name):
    config = getattr(transformers, f"{name}Config")
    plain, noted = (
        declare(config(num_hidden_layers=1, **note), f"{name}ForCausalLM") for note in ({}, {"head_dim": 4})
    )
    assert plain.tensors() == noted.tensors()


@pytest.mark.parametrize("name", ["Llama", "Mistral", "Gemma2", "Mixtral", "Qwen2"])
def test_a_share_of_rotary_channels_that_a_class_does_not_read_declares_nothing(name):
    config = getattr(transformers, f"{name}Config")
    notes = {}, {"rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 0.5}}
    plain, noted = (declare(config(num_hidden_layers=1, **note), f"{name}ForCausalLM") for note in notes)
    assert plain == noted
    scaled = {"rope_type": "linear", "factor": 2.0, "rope_theta": 100.0, "partial_rotary_factor": 0.5}
    with pytest.raises(SpecError, match=r"partial_rotary_factor is 0.5 with rope_type linear, which "):
        declare(config(num_hidden_layers=1, rope_parameters=scaled), f"{name}ForCausalLM")


@pytest.mark.parametrize("name", ["Qwen3Next", "Qwen3_5", "Qwen3_5Moe"])
def test_layers_of_linear_attention_are_named(name):
    architecture = f"{name}ForCausalLM"
    config = getattr(transformers, architecture).config_class(num_hidden_layers=8)
    with pytest.raises(SpecError, match=r": layers 0, 1, 2 and 3 more have linear_attention \(layer_types\)") as caught:
        declare(config, architecture)
    assert "\n" not in str(caught.value)


def test_positions_that_are_not_saved_fix_the_stream():
    spaces = symmetric(declare(transformers.MarianConfig(), "MarianMTModel")).spaces()
    assert [name for name in spaces if "stream" in name] == []
    assert "encoder.0.hidden" in spaces
