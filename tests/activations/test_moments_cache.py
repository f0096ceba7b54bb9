"""Statistics that do not fit are found in several passes, and are the same; a descent ends where nothing is left."""

import torch
from cases import CASES

from transfuse.activations.cache import cached_moments
from transfuse.activations.hook_points import output_points
from transfuse.activations.hooks import collect_moments
from transfuse.alignment.exact import coordinate_descent as descent
from transfuse.alignment.exact.coordinate_descent import coordinate_descent, outermost_spaces, solve_one
from transfuse.alignment.exact.evidence import from_weights
from transfuse.base.cache import Store
from transfuse.network.model import network
from transfuse.network.symmetry import symmetric
from transfuse.transport.cost import moments

VIT = CASES[0]


def test_several_passes_find_what_one_does(tmp_path):
    one, two = (network(VIT.build(seed), torch.device("cpu")) for seed in (0, 1))
    batches = [{"pixel_values": torch.randn(3, 2, 12, 12, dtype=torch.float64)} for _ in range(2)]
    passes = []

    def look(probes):
        passes.append(len(probes))
        return collect_moments(two.model, one.model, probes, batches)

    probes = output_points(one.spec)
    whole = cached_moments(Store(), probes, look)
    room = 3 * 8 * 37**2
    parts = cached_moments(Store(tmp_path), probes, look, room)
    assert passes[0] == len(whole) == sum(passes[1:])
    assert len(passes) > 3
    for probe, seen in whole.items():
        torch.testing.assert_close(parts[probe].cross, seen.cross, atol=0, rtol=0)
    cached_moments(Store(tmp_path), probes, None)  # nobody looks again


def test_without_a_cache_one_pass_finds_all():
    one = network(VIT.build(), torch.device("cpu"))
    passes = []
    probes = output_points(one.spec)
    cached_moments(Store(), probes, lambda points: passes.append(len(points)) or {}, room=1)
    assert passes == [sum(probe.is_free for probe in probes)]


def test_cached_moments_are_where_the_models_are(tmp_path):
    probes = output_points(network(VIT.build(), torch.device("cpu")).spec)[:1]
    values = torch.randn(5, probes[0].axis.size)
    found = moments(values, values)
    cached_moments(Store(tmp_path), probes, lambda points: dict.fromkeys(points, found))
    for room in (None, 1):
        again = cached_moments(Store(tmp_path), probes, None, room, device="meta")
        assert again[probes[0]].cross.device.type == "meta"


def test_a_descent_ends_where_only_rounding_is_left(monkeypatch):
    """A model aligned to itself, rounded: one round; where all is precise, more, to see that nothing changes."""
    one = network(VIT.build(), torch.device("cpu"))
    spec = symmetric(one.spec)
    rounded = {name: values.bfloat16().double() for name, values in one.tensors.items()}
    same = from_weights(spec, rounded, one.tensors)
    solved = []
    monkeypatch.setattr(descent, "solve_one", lambda *given: solved.append(given[0]) or solve_one(*given))
    coordinate_descent(spec, same, negligible=1e-5)
    assert len(solved) == len(outermost_spaces(spec))
    solved.clear()
    coordinate_descent(spec, same)
    assert len(solved) > len(outermost_spaces(spec))
