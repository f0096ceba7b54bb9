"""Moments of the inputs of layers are those of all tokens but padding, however the layers are grouped."""

import pytest
import torch
from cases import CASES, Case

from transfuse.activations import input_moments
from transfuse.activations.input_moments import InputMoments

LLAMA, OPT = (next(case for case in CASES if case.name == name) for name in ("LlamaForCausalLM", "OPTForCausalLM"))
LAYERS = ["model.layers.0.mlp.down_proj", "model.layers.1.self_attn.q_proj"]
OPT_LAYERS = ["model.decoder.layers.0.fc2", "model.decoder.layers.1.self_attn.q_proj"]  # of which one gets joined rows


@pytest.mark.parametrize(("case", "layers"), [(LLAMA, LAYERS), (OPT, OPT_LAYERS)])
@pytest.mark.parametrize("room", [2**30, 1])
def test_of_texts_with_padding(case: Case, layers: list[str], room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_moments, "ROOM", room)
    model = case.build().float()
    torch.manual_seed(0)
    ids = torch.randint(3, 30, (10, 6))
    mask = torch.ones_like(ids)
    mask[3:7, 4:] = 0
    found = InputMoments(model, layers, [{"input_ids": ids, "attention_mask": mask, "labels": ids}])
    assert list(found) == layers
    assert len(found.groups) == (1 if room > 1 else 2)
    seen: dict[str, torch.Tensor] = {}
    handles = [
        model.get_submodule(name).register_forward_pre_hook(
            lambda module, inputs, name=name: seen.update({name: inputs[0]})
        )
        for name in layers
    ]
    with torch.no_grad():
        model(input_ids=ids, attention_mask=mask)
    for handle in handles:
        handle.remove()
    for name in layers:
        rows = seen[name].reshape(10, 6, -1)[mask.bool()].double()
        torch.testing.assert_close(found[name], rows.T @ rows / len(rows), rtol=1e-4, atol=1e-5)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_of_a_layer_that_is_not_reached() -> None:
    model = LLAMA.build().float()
    model.spare = torch.nn.Linear(3, 3)
    found = InputMoments(model, ["spare"], [{"input_ids": torch.ones(1, 4, dtype=torch.long)}])
    assert found.get("spare") is None
