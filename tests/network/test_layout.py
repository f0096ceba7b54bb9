"""Fused, transposed and offset tensors, opened and closed again."""

import torch

from transfuse.alignment.transform import transform_all
from transfuse.network.builder import Builder
from transfuse.network.layout import join_fused, split_fused, unfused
from transfuse.network.space import Axis, Group, Space
from transfuse.network.spec import Spec
from transfuse.transport.maps import Permutation

HEAD = Space("head", 2)
Q, K, V = (Space(name, 3, within=HEAD) for name in "qkv")
IN = Space("in", 4, Group.FIXED)


def toy(writes: Axis, transposed: bool = False) -> Spec:
    s = Builder("toy")
    s.linear("fused", IN, writes, transposed=transposed)
    s.rms_norm("norm", s.free("x", 5), offset=1.0)
    return s.build()


def random(spec: Spec) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn([axis.size for axis in axes], generator=generator) for name, axes in spec.tensors().items()
    }


def test_opening_and_closing_changes_nothing():
    for spec in (toy(HEAD * Q + HEAD * K), toy(HEAD * (Q + K)), toy(HEAD * (Q + K), transposed=True), toy(HEAD * Q)):
        tensors = random(spec)
        there = split_fused(spec, tensors)
        assert {name: values.shape for name, values in there.items()} == {
            name: torch.Size(axis.size for axis in axes) for name, axes in unfused(spec).tensors().items()
        }
        back = join_fused(spec, there)
        assert back.keys() == tensors.keys()
        for name, values in tensors.items():
            torch.testing.assert_close(back[name], values)


def test_fused_layouts_differ():
    """head * (q + k + v), as in GPT-NeoX, is not head * q + head * k + head * v, as in GPT-2."""
    parts = {name: torch.randn(2, 3, 4) for name in "qkv"}
    head_major, part_major = toy(HEAD * (Q + K + V)), toy(HEAD * Q + HEAD * K + HEAD * V)
    stored = {
        "head": (head_major, torch.cat(list(parts.values()), 1).flatten(0, 1)),
        "part": (part_major, torch.cat([part.flatten(0, 1) for part in parts.values()])),
    }
    for spec, weight in stored.values():
        found = split_fused(spec, random(spec) | {"fused.weight": weight})
        for number, part in enumerate(parts.values()):
            assert torch.equal(found[f"fused[{number}].weight"], part.flatten(0, 1))


def test_a_fused_tensor_is_carried_part_by_part():
    spec = toy(HEAD * (Q + K))
    tensors = random(spec)
    swap, turn = Permutation(torch.tensor([1, 0])), Permutation(torch.tensor([[1, 2, 0], [2, 0, 1]]))
    there = transform_all(unfused(spec), split_fused(spec, tensors), {"head": swap, "q": turn})
    moved = join_fused(spec, there)["fused.weight"].reshape(2, 2, 3, 4)
    swapped = tensors["fused.weight"].reshape(2, 2, 3, 4)[[1, 0]]
    assert torch.equal(moved[:, 1], swapped[:, 1])
    assert torch.equal(moved[:, 0], torch.stack([swapped[head, 0, turn.index[head]] for head in range(2)]))


def test_a_gain_is_stored_short_of_its_offset():
    spec = toy(HEAD * Q)
    assert torch.equal(split_fused(spec, random(spec))["norm.weight"], random(spec)["norm.weight"] + 1)


def test_stacked_maps_with_biases_whose_outputs_alternate():
    expert = Space("expert", 3)
    unit = Space("unit", 5, within=expert)
    s = Builder("toy")
    branches = s.fixed("gate", 1) + s.fixed("up", 1)
    s.linear("fused", IN, unit * branches, "b", weight="w", transposed=True, stacked=expert)
    spec = s.build()
    tensors = random(spec)
    assert (tensors["fused.w"].shape, tensors["fused.b"].shape) == ((3, 4, 10), (3, 10))
    parts = split_fused(spec, tensors)
    assert torch.equal(parts["fused[1].w"], tensors["fused.w"][..., 1::2].transpose(1, 2))
    assert torch.equal(parts["fused[1].b"], tensors["fused.b"][..., 1::2])
    joined = join_fused(spec, parts)
    assert all(torch.equal(joined[name], values) for name, values in tensors.items())


def test_a_gain_of_two_kinds_of_channels_is_split():
    s = Builder("toy")
    s.parameter("gain", s.free("rotary", 2) + s.free("rest", 3), offset=1.0)
    spec = s.build()
    tensors = random(spec)
    parts = split_fused(spec, tensors)
    torch.testing.assert_close(parts["gain[1]"], tensors["gain"][2:] + 1)
    torch.testing.assert_close(join_fused(spec, parts)["gain"], tensors["gain"])
