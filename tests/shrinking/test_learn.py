"""A model without a head is trained to give the embeddings of the large one."""

import pytest
import torch
from cases import CASES
from transformers import BertModel

from transfuse.base.batch import cast
from transfuse.base.progress import silent
from transfuse.base.timing import Stopwatch
from transfuse.config.make import make
from transfuse.config.shrink_options import ShrinkOptions
from transfuse.network.model import network
from transfuse.network.sizes import Sizes
from transfuse.network.target_sizes import target_sizes
from transfuse.shrinking.shrink import shrunk_model

TRAINED = make(ShrinkOptions, {"ratio": 0.5, "steps": 50})


@pytest.mark.parametrize("sizes", [Sizes(layers=1), Sizes(hidden_size=8)], ids=str)
def test_training_lowers_the_error_of_embeddings(sizes: Sizes) -> None:
    case = next(case for case in CASES if case.name == "BertForMaskedLM")
    torch.manual_seed(0)
    model = BertModel(case.build(1).config).eval()
    with torch.no_grad():
        for values in model.parameters():
            values.add_(torch.randn_like(values), alpha=0.2)
    batches = [cast(case.inputs(model.config, seed), torch.float32) for seed in range(40)]
    wanted = target_sizes(model.config, sizes)
    _, facts = shrunk_model(network(model, torch.device("cpu")), wanted, batches, TRAINED, silent, Stopwatch())
    excess = facts["learned_weights"]["excess"]
    assert excess[0] < 1  # of the variance, because the targets are in the units of the small model
    assert min(excess) < excess[0]
