"""`--adapter-out` on the command line."""

import json

import pytest
from cases import CASES
from cli_inputs import Run, World, one_line


@pytest.mark.parametrize("data", [False, True])
def test_a_line_says_what_the_adapter_holds(world: World, run: Run, data: bool) -> None:
    given = ("--data", world.images, "--merge", "mean") if data else ()
    ran = run("fuse", world.a, world.b, "-o", world.here / "out", "--adapter-out", 4, *given)
    assert ran.status == 0, ran.err
    line = next(line for line in ran.out.splitlines() if line.startswith("Adapter in"))
    assert f"{world.here}/out/adapter, for {world.a}. With rank 4, it holds" in line
    assert ("of that of their outputs on the samples" in line) is data
    assert f"transfuse eval {world.here}/out {world.here}/out/adapter --data" in line
    written = json.loads((world.here / "out" / "adapter" / "adapter_config.json").read_text())
    assert written["auto_mapping"]["base_model_class"] == "ViTForImageClassification"
    record = json.loads((world.here / "out" / "transfuse.json").read_text())
    assert record["options"]["adapter_out"] == 4
    if data:
        assert record["adapter"]["outputs_held"] > record["adapter"]["layers_held"]


def test_the_plan_has_its_size(world: World, run: Run) -> None:
    ran = run("plan", world.a, world.b, "--adapter-out", 4, "--json")
    assert ran.status == 0, ran.err
    planned = json.loads(ran.out)["adapter_bytes"]
    run("fuse", world.a, world.b, "-o", world.here / "out", "--adapter-out", 4)
    written = (world.here / "out" / "adapter" / "adapter_model.safetensors").stat().st_size
    assert planned <= written <= planned + 10_000  # names
    assert "adapter: at most" in run("plan", world.a, world.b, "--adapter-out", 4).out


@pytest.mark.parametrize("rank", [0, -3, "many"])
def test_what_is_no_rank_is_refused(world: World, run: Run, rank: object) -> None:
    ran = run("fuse", world.a, world.b, "-o", world.here / "out", "--adapter-out", rank)
    one_line(ran, ["--adapter-out"])
    assert not (world.here / "out").exists()


def test_experts_are_refused_before_they_are_fused(world: World, run: Run) -> None:
    experts = next(case for case in CASES if case.name == "MixtralForCausalLM")
    for seed in (0, 1):
        experts.build(seed).float().save_pretrained(world.here / f"experts {seed}")
    models = [world.here / "experts 0", world.here / "experts 1"]
    for command in (("fuse", *models, "-o", world.here / "out"), ("plan", *models)):
        ran = run(*command, "--adapter-out", 4)
        one_line(ran, ["adapter-out", "several experts, which adapters are not written for"])
    assert not (world.here / "out").exists()
