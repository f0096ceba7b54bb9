"""What is remembered: the model answers the same, without it."""

import pytest
import torch
from cases import CASES

from transfuse.activations.execution_order import execution_steps, prefix_lengths, steps_within_budget
from transfuse.activations.prefix_cache import PrefixCache
from transfuse.base.batch import cast
from transfuse.merging.fitting.layer_groups import stages
from transfuse.network.model import declaration
from transfuse.network.outputs import model_output

ONCE = [case for case in CASES if not case.name.startswith("Albert")]  # whose blocks run once
families = pytest.mark.parametrize("case", ONCE, ids=lambda case: case.name)


def prepared(case):
    """A model, two batches, its stages, and its steps."""
    model = case.build(1)
    batches = [cast(case.inputs(model.config, seed), torch.float64) for seed in range(2)]
    todo = stages(declaration(model), model)
    return (
        model,
        batches,
        todo,
        execution_steps(model, batches[0], [linear.name for stage in todo for linear in stage.linears]),
    )


@families
@torch.no_grad()
def test_a_model_answers_the_same_whatever_it_remembers(case):
    model, batches, _, order = prepared(case)
    expected = [model_output(model, batch) for batch in batches]
    prefix = PrefixCache(model, batches, order)
    assert sum(step.is_block for step in order) == len({step.block for step in order}) > 0
    for level, step in enumerate(order, 1):
        prefix.advance(level)
        if step.is_block or step.is_costly:
            for parameter in model.get_submodule(step.name).parameters():
                parameter.fill_(float("nan"))
        for batch, each in zip(batches, expected, strict=True):
            with prefix.replay(batch):
                torch.testing.assert_close(model_output(model, batch), each)
    assert not any("forward" in vars(module) for module in model.modules())


@families
@torch.no_grad()
@pytest.mark.parametrize("room", [0, 1, 2**30])
def test_what_is_watched_is_what_would_be_seen(case, room):
    """With no room, with room for one batch, and for all."""
    model, batches, todo, order = prepared(case)
    plain, prefix = (PrefixCache(model, batches, order, each) for each in (0, room))
    before = prefix_lengths(order, [stage.module_names() for stage in todo])
    for level in sorted({*before}):
        together = [stage for stage, its in zip(todo, before, strict=True) if its == level]
        prefix.advance(level)
        once, *repeatedly = [[*stage.output_points(), *stage.stream] for stage in together]
        following = min((each for each in before if each > level), default=len(order))
        prefix.watch(once, [probe for points in repeatedly for probe in points], following)
        for stage in together:
            for batch in batches:
                probes = [*stage.output_points(), *stage.stream]
                expected, found = (each.observe(probes, batch) for each in (plain, prefix))
                torch.testing.assert_close(found, expected)
        if repeatedly:
            assert len(prefix.activations) == {0: 0, 1: 1, 2**30: 2}[room]


@families
def test_a_stage_is_never_behind_what_it_looks_at(case):
    _, _, todo, order = prepared(case)
    found = prefix_lengths(order, [stage.module_names() for stage in todo])
    assert found == sorted(found)
    for level, stage in zip(found, todo, strict=True):
        done = [step.name for step in order[:level]]
        assert not any(f"{name}.".startswith(f"{step}.") for step in done for name in stage.module_names())


class Twice(torch.nn.Module):
    """A block that runs twice."""

    def __init__(self):
        super().__init__()
        self.blocks = torch.nn.ModuleList([torch.nn.Linear(3, 3)])

    def forward(self, x):
        return self.blocks[0](self.blocks[0](x))


class Block(torch.nn.Module):
    """One whose first part's output is changed behind it, if asked."""

    def __init__(self, in_place):
        super().__init__()
        self.first, self.second, self.in_place = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3), in_place

    def forward(self, x):
        found = self.first(x)
        return self.second(found.add_(x) if self.in_place else found + x)


class Chain(torch.nn.Module):
    """Such blocks one after the other."""

    def __init__(self, in_place):
        super().__init__()
        self.blocks = torch.nn.ModuleList([Block(in_place), Block(False)])

    def forward(self, x):
        return self.blocks[1](self.blocks[0](x))


def test_a_block_that_runs_twice_is_not_remembered():
    assert execution_steps(Twice(), {"x": torch.ones(2, 3)}) == []


def test_what_is_changed_in_place_is_not_remembered():
    named = [
        [step.name for step in execution_steps(Chain(in_place), {"x": torch.ones(2, 3)})] for in_place in (False, True)
    ]
    second = ["blocks.1.first", "blocks.1.second", "blocks.1"]
    assert named == [["blocks.0.first", "blocks.0.second", "blocks.0", *second], ["blocks.0", *second]]


def test_parts_of_blocks_are_remembered_only_where_there_is_room():
    order = execution_steps(Chain(False), {"x": torch.ones(2, 3)}, ["blocks.0.first", "blocks.1"])
    assert [step.output_bytes for step in order] == [12] * 6
    assert [step.is_costly for step in order] == [True, False, True, False, False, True]
    assert steps_within_budget(order, 10, 120) == order
    assert [step.name for step in steps_within_budget(order, 10, 119)] == ["blocks.0", "blocks.1"]
    assert steps_within_budget([], 10, 0) == []
