"""Blocks that are remembered: the model answers the same, without them."""

import pytest
import torch
from cases import CASES

from transfuse.batch import cast
from transfuse.merge.prefix import Prefix, levels, stacks
from transfuse.merge.stages import stages
from transfuse.network.model import answer, declaration

families = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@families
@torch.no_grad()
def test_a_model_answers_the_same_whatever_it_remembers(case):
    model = case.build(1)
    batches = [cast(case.inputs(model.config, seed), torch.float64) for seed in range(2)]
    expected = [answer(model, batch) for batch in batches]
    prefix = Prefix(model, batches)
    blocks = [block for stack in stacks(model).values() for block in stack]
    for level in range(1, len(blocks) + 1):
        prefix.advance(level)
        assert prefix.level == level
        for parameter in blocks[level - 1].parameters():
            parameter.fill_(float("nan"))
        for batch, each in zip(batches, expected, strict=True):
            with prefix.of(batch):
                torch.testing.assert_close(answer(model, batch), each)
    assert all("forward" not in vars(block) for block in blocks)


@families
def test_a_stage_is_never_behind_what_it_looks_at(case):
    model = case.build(1)
    todo = stages(declaration(model), model)
    found = levels(model, [stage.names() for stage in todo])
    assert found == sorted(found)
    order = [f"{name}.{index}." for name, stack in stacks(model).items() for index in range(len(stack))]
    for level, stage in zip(found, todo, strict=True):
        assert not any(name.startswith(start) for start in order[:level] for name in stage.names())


@torch.no_grad()
def test_a_block_that_runs_twice_is_not_remembered():
    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = torch.nn.ModuleList([torch.nn.Linear(3, 3)])

        def forward(self, x):
            return self.blocks[0](self.blocks[0](x))

    batch = {"x": torch.ones(2, 3)}
    prefix = Prefix(Twice(), [batch])
    prefix.advance(1)
    assert prefix.level == 0
