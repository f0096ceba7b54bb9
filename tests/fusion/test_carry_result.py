"""A carried fine-tune has the precision of the new base."""

import copy
from pathlib import Path

import pytest
import torch
from cases import CASES
from safetensors.torch import load_file
from transformers import BertForMaskedLM, PreTrainedModel

import transfuse
from transfuse.fusion.carrying.plan import carry_plan

CASE = next(case for case in CASES if case.name == "BertForMaskedLM")
HALF, FULL, DOUBLE = torch.bfloat16, torch.float32, torch.float64


def tuned_copy(model: PreTrainedModel) -> PreTrainedModel:
    """A model whose every tensor moved a little, as after fine-tuning."""
    twin = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in twin.parameters():
            noise = torch.randn(parameter.shape, generator=generator).to(parameter)
            parameter.add_(0.1 * noise * parameter.square().mean().sqrt())
    return twin


@pytest.mark.parametrize(
    "dtypes",
    [(torch.float16,) * 3, (HALF,) * 3, (FULL, HALF, HALF), (HALF, FULL, FULL), (DOUBLE, FULL, HALF)],
    ids=str,
)
def test_it_has_the_precision_of_the_new_base(tmp_path: Path, dtypes: tuple[torch.dtype, ...]) -> None:
    base = CASE.build(1)
    models = [model.to(dtype) for model, dtype in zip((CASE.build(2), base, tuned_copy(base)), dtypes, strict=True)]
    new_base, base, tuned = models
    fusion = transfuse.carry(base, tuned, new_base, adapter_out=4)
    assert fusion.model.dtype == dtypes[0]
    folder = fusion.save(tmp_path / "out")
    assert {values.dtype for values in load_file(folder / "model.safetensors").values()} == {dtypes[0]}
    assert BertForMaskedLM.from_pretrained(folder, dtype="auto").dtype == dtypes[0]
    adapter = load_file(folder / "adapter" / "adapter_model.safetensors")
    factors = {values.dtype for name, values in adapter.items() if "lora" in name}
    assert factors == {torch.promote_types(dtypes[0], FULL)}
    assert {values.dtype for name, values in adapter.items() if "lora" not in name} <= {dtypes[0]}
    assert transfuse.carry(base, tuned, new_base, dtype="float16").model.dtype == torch.float16


@pytest.mark.parametrize("dtypes", [(HALF, FULL), (FULL, HALF), (DOUBLE, FULL)], ids=str)
def test_so_does_one_with_a_new_head(dtypes: tuple[torch.dtype, ...]) -> None:
    case = next(case for case in CASES if case.name == "ViTForImageClassification")
    base, new_base = case.build(1).float(), case.build(2).to(dtypes[0])
    tuned = case.build(3, num_labels=7).float()
    tuned.base_model.load_state_dict(tuned_copy(base).base_model.state_dict())
    carried = transfuse.carry(base, tuned.to(dtypes[1]), new_base).model
    assert carried.num_labels == 7
    assert carried.dtype == dtypes[0]


def test_so_does_the_predicted_one(tmp_path: Path) -> None:
    base = CASE.build(1).to(FULL)
    new_base = CASE.build(2, intermediate_size=50).to(HALF)
    models = {"base": base, "tuned": tuned_copy(base), "new": new_base}
    for name, model in models.items():
        model.save_pretrained(tmp_path / name)
    plan = carry_plan(*(str(tmp_path / name) for name in models))
    assert plan.output_bytes == new_base.num_parameters() * HALF.itemsize
    assert [Path(model.path).name for model in plan.models] == ["new", "base", "tuned"]
