"""What is said of the families is true of all of them."""

from dataclasses import fields
from pathlib import Path

import pytest
import transformers

from transfuse.network.families import FAMILIES, declare

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
