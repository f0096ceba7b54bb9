"""`--grow` on the command line."""

import json

from cli_inputs import Run, World, one_line
from transformers import AutoModelForImageClassification


def test_a_line_says_how_the_result_grew(world: World, run: Run) -> None:
    ran = run("fuse", world.a, world.b, "-o", world.here / "out", "--data", world.images, "--grow", 1.2)
    assert ran.status == 0, ran.err
    assert "times the anchor's (intermediate_size 32 to " in ran.out
    model = AutoModelForImageClassification.from_pretrained(world.here / "out")
    record = json.loads((world.here / "out" / "transfuse.json").read_text())
    assert model.config.intermediate_size == record["growth"]["sizes"]["grown"]["intermediate_size"] > 32
    assert model.num_parameters() == record["growth"]["parameters"]["grown"]
    assert "--grow 1.2" in (world.here / "out" / "README.md").read_text()


def test_the_plan_shows_the_size(world: World, run: Run) -> None:
    given = ("plan", world.a, world.b, "--data", world.images, "--grow", 1.2)
    planned = json.loads(run(*given, "--json").out)
    run("fuse", world.a, world.b, "-o", world.here / "out", "--data", world.images, "--grow", 1.2)
    record = json.loads((world.here / "out" / "transfuse.json").read_text())
    assert planned["growth"] == record["growth"]
    shown = run(*given).out
    assert f"result: {planned['growth']['parameters']['grown']:,} parameters" in shown


def test_what_cannot_grow_is_refused(world: World, run: Run) -> None:
    out = world.here / "out"
    one_line(run("fuse", world.a, world.b, "-o", out, "--grow", 1.5), ["--grow", "give --data"])
    one_line(run("fuse", world.a, world.b, "-o", out, "--data", world.images, "--grow", 3), ["--grow", "3"])
    ran = run("fuse", world.a, world.b, "-o", out, "--data", world.images, "--grow", 1.0001)
    one_line(ran, ["grow", "leave no room"])
    assert not out.exists()
