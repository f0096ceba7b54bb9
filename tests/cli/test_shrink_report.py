"""`transfuse shrink --report`: the page, its numbers, and the same numbers in the model card."""

import json
import re

from cli_inputs import Run, World

QUICK = ("--effort", "quick", "--device", "cpu", "--batch-size", "4")


def test_a_page_with_all_that_was_measured(world: World, run: Run) -> None:
    out = world.here / "out"
    given = ("--data", world.images, "-o", out, "--ratio", 0.7, "--steps", 2, "--device", "cpu", "--report")
    ran = run("shrink", world.deep, *given)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines()[-1] == f"Report: {out}/report.html"
    page, report = (out / "report.html").read_text(), json.loads((out / "report.json").read_text())
    record = json.loads((out / "transfuse.json").read_text())
    assert report["verdict"] in page
    assert report["verdict"] in ran.out
    assert "the data that it was fitted to" in ran.out
    for title in ("Sizes", "Metrics", "Sizes that were tried", "Validation loss in training", "Time and memory"):
        assert f">{title}</h2>" in page, title
    assert "Gain of least squares by layer" in page
    assert "Classes of the small model" in page
    assert "which were also used for shrinking" in page
    assert f"{record['parameters']['small']:,}" in page
    tried = page[page.index('id="tried"') : page.index("</section>", page.index('id="tried"'))]
    assert tried.count("<tr") == len(record["tried_sizes"]) + 1
    assert tried.count('class="fusion"') == 1
    assert not re.search(r"<script|<link|<img|parents", page)
    assert (
        report["command"]
        == f"transfuse shrink {world.deep} -o {out} --data {world.images} --device cpu --steps 2 --ratio 0.7"
    )
    rows = report["measured"]["rows"]
    assert [(row["name"], row["role"]) for row in rows] == [
        ("small model", "fusion"),
        (f"large model: {world.deep}", "parent"),
    ]
    assert rows[0]["excess"] == rows[0]["metrics"]["loss"] - rows[1]["metrics"]["loss"]
    card = (out / "README.md").read_text()
    assert report["verdict"] in card
    assert report["command"] in card
    assert "Not measured yet" not in card
    again = ("--data", world.images, "-o", out, "--layers", 1, *QUICK, "--overwrite", "-q")
    assert run("shrink", world.a, *again).status == 0
    assert not (out / "report.html").exists()


def test_agreement_where_there_are_no_labels(world: World, run: Run) -> None:
    given = ("--data", world.bare, "-o", world.here / "out", "--layers", 1, *QUICK, "--report", "--json")
    ran = run("shrink", world.a, *given)
    assert ran.status == 0, ran
    document = json.loads(ran.out)
    assert document["verdict"].startswith("Without labels, the small model reaches ")
    assert document["report"] == str(world.here / "out" / "report.html")
    page = (world.here / "out" / "report.html").read_text()
    assert "compared with the large one" in page
    assert "Blocks that stayed: " in page
    assert "agreement" in page
    assert "Difference from" not in page
    assert "Sizes that were tried" not in page
    card = (world.here / "out" / "README.md").read_text()
    assert "the models are compared with the large model" in card
    assert "model-index" not in card


def test_sizes_are_shown_before_a_whole_command_is_run(world: World, run: Run) -> None:
    plan = run("shrink", world.a, "-o", "out", "--layers", 1, "--report", "--resume", "--dry-run")
    assert plan.status == 0
    assert "layers" in plan.out
    assert world.listing() == {}
