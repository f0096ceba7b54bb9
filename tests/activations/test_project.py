"""What a layer writes has the moments that it shows, also where they follow from what it reads."""

import pytest
import torch
from cases import CASES, Case
from torch.testing import assert_close

from transfuse.activations.hooks import collect_moments
from transfuse.activations.project import project_moments
from transfuse.alignment.exact.canonical_form import canonicalize
from transfuse.alignment.exact.evidence import hook_points as exact_probes
from transfuse.alignment.spec_for import alignment_spec
from transfuse.config.flow_options import FlowOptions
from transfuse.network.model import network, sharing_tensors
from transfuse.transport.cost import center

# No layer writes as much as it reads, or only pieces of one do.
FUSED = ("ModernBert", "Phi", "StableLm", "Falcon")
REPEATED = ("Albert",)  # layers run several times, and are not observed
FIXED = ("Marian", "M2M100")  # nothing of a fixed stream is matched, so that there is nothing to save


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_moments_follow(case: Case) -> None:
    one, two = (network(case.build(seed), torch.device("cpu")) for seed in (0, 1))
    spec = alignment_spec(one.spec, "exact", FlowOptions(), "all")
    models = [sharing_tensors(each.model, dict(canonicalize(spec, each.tensors))) for each in (one, two)]
    batches = [case.inputs(one.model.config, seed) for seed in (0, 1)]
    batches = [
        {name: values.double() if values.is_floating_point() else values for name, values in batch.items()}
        for batch in batches
    ]
    taken = []

    def look(probes):
        taken.extend(probes)
        return collect_moments(*models, probes, batches)

    probes = [probe for probe in exact_probes(spec) if any(space.free for space in probe.axis.spaces())]
    found, direct = project_moments(*models, probes, look), collect_moments(*models, probes, batches)
    assert list(found) == [probe for probe in probes if probe in direct]
    for probe in found:
        seen, due = center(found[probe]), center(direct[probe])
        assert_close(seen.square_x, due.square_x)
        assert_close(seen.cross, due.cross, atol=1e-9 * float(due.cross.abs().max()), rtol=1e-7)
    assert any(not probe.with_cross for probe in taken) or case.name.startswith((*FUSED, *REPEATED, *FIXED))
