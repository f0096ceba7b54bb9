"""`transfuse fuse --report` and `transfuse report`: one page that stands alone, and the same numbers as JSON."""

import json
import math
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_inputs import Run, World, by_path, one_line, vit
from datasets import Dataset, Image
from huggingface_hub import ModelCard
from kept_warnings import KeptWarnings
from languages import TEXTS, gpt2, saved
from transformers import ViTForImageClassification

import transfuse
from transfuse.cli.jobs.report import samples_to_measure
from transfuse.config.options import Options
from transfuse.network.families import FAMILIES

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """Checks that elements close in order, ids are told apart, and nothing is fetched; keeps what is shown."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.shown = ""
        self.titles: set[str | None] = set()
        self.texts: list[str] = []
        self.feed(text)
        assert not self.open, self.open
        assert len(self.ids) == len(set(self.ids)), sorted(self.ids)
        assert not [link for link in self.links if not link.startswith(("#", "data:"))], self.links
        assert "@import" not in text
        assert "url(http" not in text
        assert not {"script", "iframe", "link", "object"}.intersection(self.tags)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self._note(attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._note(attrs)

    def _note(self, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "title":
                self.titles.add(value)
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href"):
                self.links.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        self.shown += data
        self.texts.append(data)


def read(folder: Path) -> tuple[Page, dict[str, Any]]:
    found = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return Page((folder / "report.html").read_text(encoding="utf-8")), found


def test_whom_was_believed_is_told(world: World, run: Run) -> None:
    out = world.here / "out"
    weighting = ("--teacher-weighting", "confidence")
    ran = run("fuse", world.a, world.b, "-o", out, "--data", world.images, "--report", *weighting)
    assert (ran.status, ran.err) == (0, "")
    assert "least-squares, teacher weighting by confidence" in read(out)[0].shown


def test_how_learning_went_is_drawn(world: World, run: Run) -> None:
    out = world.here / "out"
    learned = ("--align", "learned", "--merge", "learned", "--steps", 3)
    ran = run("fuse", world.a, world.b, "-o", out, "--data", world.images, "--report", *learned)
    assert (ran.status, ran.err) == (0, "")
    page, _ = read(out)
    assert "Validation loss in training" in page.shown
    assert "Gain of least squares" in page.shown
    assert "teacher weighting" not in page.shown


def test_a_fusion_with_its_report(world: World, run: Run) -> None:
    out = world.here / "out"
    ran = run("fuse", world.a, world.b, "-o", out, "--data", world.images, "--report")
    assert (ran.status, ran.err) == (0, "")
    page, found = read(out)
    rows = {row["name"]: row for row in found["measured"]["rows"]}
    assert [row["role"] for row in rows.values()] == [*["parent"] * 2, *["control"] * 3, "fusion", "ensemble"]
    alone = by_path(run("eval", out, world.a, world.b, "--data", world.images, "--json"))
    for name, path in (("fusion", out), (f"anchor: {world.a}", world.a), (f"model 2: {world.b}", world.b)):
        assert rows[name]["metrics"]["loss"] == pytest.approx(alone[str(path)]["loss"], rel=1e-4)
    assert found["measured"]["against"][f"model 2: {world.b}"]["loss"] == pytest.approx(
        alone[str(out)]["against"][1]["loss"], abs=1e-5
    )
    assert found["verdict"] in page.shown
    assert " %" not in page.shown
    assert all(name in page.shown for name in rows if ":" not in name)
    assert "better than its controls. The plain average does not match the units. The uniform plan" in page.shown
    assert {f"anchor: {world.a}", f"model 2: {world.b}", str(world.images)} <= page.titles
    assert {"anchor: a", "model 2: b", "images"} <= set(page.texts)
    assert str(world.a) not in page.shown.replace(found["command"], "")
    assert all(words in page.shown for words in ("residual stream", "attention heads", "hidden units"))
    assert "push" not in page.shown
    assert {"0.head", "stream", "1.hidden"} <= {each["space"] for each in found["matched"]}
    heads = next(each for each in found["matched"] if each["space"] == "1.head")
    assert sorted(pair["source"] for pair in heads["pairs"]) == [0, 1]
    assert found["record"]["stages"].keys() == {"loading", "preparing samples", "aligning", "merging"}
    assert found["record"]["peak_bytes"] > 1e8
    assert page.tags.count("svg") == 4  # the way, by depth, gains, the stream
    assert found["command"] in page.shown
    assert (out / "README.md").is_file()


def test_a_report_afterwards_says_the_same(world: World, run: Run) -> None:
    out, there = world.here / "out", world.here / "there"
    assert run("fuse", world.a, world.b, "-o", out, "--data", world.images, "--report").status == 0
    _, before = read(out)
    before_files = {path.name: path.read_bytes() for path in out.iterdir()}
    ran = run("report", out, "-o", there, "--json")
    assert ran.status == 0, ran
    assert json.loads(ran.out) == {"report": str(there / "report.html"), "verdict": before["verdict"]}
    _, after = read(there)
    assert after == before
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before_files
    assert str(out / "report.html") in run("report", out, "--limit", 5).out
    assert read(out)[1]["measured"]["rows"][0]["metrics"]["samples"] == 5


def test_from_another_directory(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths that were given in one are found from another."""
    shutil.copytree(world.a, world.here / "a")
    shutil.copytree(world.b, world.here / "b")
    world.file("families.py", "import transfuse\ntransfuse.register('ViTModel', lambda config: None)\n")
    monkeypatch.setitem(FAMILIES, "ViTModel", FAMILIES["ViTModel"])
    monkeypatch.chdir(world.here)
    assert run("fuse", "a", "b", "-o", "out", "--spec", "families.py").status == 0
    (world.here / "deeper").mkdir()
    monkeypatch.chdir(world.here / "deeper")
    assert run("report", "../out").status == 0


def test_it_is_measured_on_other_data_and_aligned_by_its_own(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, more = world.here / "out", world.here / "more"
    shutil.copytree(world.images, more)
    assert run("fuse", world.a, world.b, "-o", out).status == 0
    assert run("report", out, "--data", more).status == 0
    page, found = read(out)
    assert found["record"]["data"] is None
    assert "--data" not in found["command"]
    assert found["measured"]["source"] == str(more)
    assert not found["measured"]["calibrated"]
    assert run("fuse", world.a, world.b, "-o", out, "--data", more, "--report", "--overwrite").status == 0
    page, found = read(out)
    assert found["measured"]["calibrated"]
    assert "which were also used for the fusion" in page.shown
    monkeypatch.chdir(world.here)
    assert run("report", "out", "--data", "more").status == 0
    page, found = read(out)
    assert found["measured"]["calibrated"], "the path of the same samples was written in another way"
    assert "model-index" not in (out / "README.md").read_text()


def test_data_that_was_named_must_be_readable(world: World, run: Run) -> None:
    out = world.here / "out"
    assert run("fuse", world.a, world.b, "-o", out).status == 0
    one_line(run("report", out, "--data", world.here / "typo.parquet"), ["typo.parquet", "no such file"])
    assert not (out / "report.html").exists()


def test_answers_that_are_none_of_the_models_are_refused_before_it_fuses(world: World, run: Run) -> None:
    rows = [{"image": str(path), "label": 7} for path in sorted(world.images.rglob("*.png"))]
    data = Dataset.from_list(rows).cast_column("image", Image())
    data.save_to_disk(world.here / "seven")
    out = world.here / "out"
    ran = run("fuse", world.a, world.b, "-o", out, "--data", world.here / "seven", "--report")
    one_line(ran, ["label 7"])
    assert not (world.here / "out.work").exists()
    assert run("fuse", world.a, world.b, "-o", out, "--data", world.here / "seven").status == 0


def test_without_labels_models_are_compared_and_all_is_shown(world: World, run: Run) -> None:
    for arguments in (["--data", world.bare], []):
        out = world.here / f"out{len(arguments)}"
        assert run("fuse", world.a, world.b, "-o", out, *arguments, "--report").status == 0
        page, found = read(out)
        assert (found["measured"] is None) == (not arguments)
        assert ("Without labels, the fused model reaches" if arguments else "Not measured") in page.shown
        assert found["matched"]
    assert found["record"]["predicted"].keys() == {"bytes"}


def test_why_nothing_is_measured_is_said(world: World) -> None:
    texts, kept = world.here / "texts.txt", KeptWarnings()
    texts.write_text("to be\nor not to be\n")
    samples = samples_to_measure(str(texts), str(world.a), "ViTForImageClassification", 10, Options(), kept)
    assert samples is None
    (line,) = kept.lines
    assert line.startswith(f"the report measures nothing: {texts}: ")


def tuned_models(base: Path, folder: Path) -> list[Path]:
    """Two models that differ little from a base."""
    tuned = []
    for seed in (1, 2):
        model = ViTForImageClassification.from_pretrained(base)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(1e-3 * torch.randn(weight.shape, generator=generator))
        tuned.append(folder / str(seed))
        model.save_pretrained(tuned[-1])
    shutil.copy(base / "preprocessor_config.json", tuned[0])
    return tuned


@pytest.mark.parametrize("chosen", [("--align", "exact"), ("--groups", "all"), ()], ids=str)
def test_models_of_one_base_are_aligned_again_only_if_they_were(
    world: World, run: Run, chosen: tuple[str, ...]
) -> None:
    out = world.here / "out"
    assert run("fuse", *tuned_models(world.a, world.here), "-o", out, "--report", *chosen).status == 0
    _, before = read(out)
    assert bool(before["matched"]) == bool(chosen)
    assert run("report", out).status == 0
    assert read(out)[1] == before


def test_one_model_with_a_base_is_scaled_and_reported(world: World, run: Run) -> None:
    tuned = tuned_models(world.a, world.here)[0]
    merging = ("--base", world.a, "--merge", "task-arithmetic", "--task-scale", 0.5)
    assert run("plan", tuned, *merging[:4]).status == 0
    assert run("fuse", tuned, "-o", world.here / "plain").err.endswith("and a merge of task vectors\n")
    out = world.here / "out"
    ran = run("fuse", tuned, "-o", out, *merging, "--data", world.images, "--report")
    assert (ran.status, (out / "report.html").exists()) == (0, True), ran
    ran = run("report", out, "--data", world.images)
    assert ran.status == 0, ran


def test_models_of_one_base_are_merged_again_by_their_task_vectors(world: World, run: Run) -> None:
    base = Path(shutil.copytree(world.a, world.here / "base"))
    tuned = tuned_models(base, world.here)
    out = world.here / "out"
    refused = run("fuse", *tuned, "-o", out, "--base", world.b, "--merge", "ties", "--align", "exact")
    one_line(refused, ["was not fine-tuned from"])
    assert not (world.here / "out.work").exists(), "no other run can go on"
    ran = run("fuse", *tuned, "-o", out, "--maps", world.here / "m.safetensors")
    assert ran.err.endswith("--maps: models of one base are not aligned; choose align exact, or leave maps out\n")
    assert run("fuse", *tuned, "-o", out, "--base", base, "--merge", "ties").status == 0
    ran = run("report", out, "--data", world.images)
    assert ran.status == 0, ran
    page, found = read(out)
    assert found["measured"]["aligned"] is False
    assert "none, as the models share a base" in page.shown
    assert str(base) in page.titles
    next(base.glob("*.safetensors")).write_bytes(b"")
    one_line(run("report", out), [str(base), "has changed since the fusion"])


def test_tensor_by_tensor(world: World, run: Run) -> None:
    out, whole = world.here / "out", world.here / "whole"
    big = [vit(world.here / str(seed), seed, intermediate_size=1024, hidden_size=512) for seed in (1, 2)]
    ran = run("fuse", *big, "-o", out, "--max-memory", "760MB", "--report", "--groups", "permutations")
    assert ran.status == 0, ran
    assert json.loads((out / "transfuse.json").read_text())["streamed"] is True
    assert run("fuse", *big, "-o", whole, "--report", "--groups", "permutations").status == 0
    streamed, loaded = (read(folder)[1] for folder in (out, whole))
    assert streamed["matched"] == loaded["matched"]
    assert "Not measured" in streamed["verdict"]


def test_three_models_of_odd_names(world: World, run: Run) -> None:
    odd = Path(shutil.copytree(world.b, world.here / '<b>$x^2$ & "q" {{ 7 * 7 }}'))
    third = vit(world.here / "third", 7)
    out = world.here / "out"
    ran = run("fuse", world.a, odd, third, "-o", out, "--data", world.images, "--report", "--align", "flow")
    assert ran.status == 0, ran
    page, found = read(out)
    assert odd.name in page.shown
    assert str(odd) in page.titles
    assert {each["model"] for each in found["matched"]} == {1, 2}
    assert len(found["measured"]["lines"]) == 3
    assert "3 times the cost" in page.shown
    assert "49" not in page.shown.split("Models")[1].split("align")[0]


def test_texts(tmp_path: Path, run: Run) -> None:
    (tmp_path / "texts.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    a, b = (saved(tmp_path / str(seed), gpt2, seed) for seed in (1, 2))
    ran = run("fuse", a, b, "-o", tmp_path / "out", "--data", tmp_path / "texts.jsonl", "--report")
    assert ran.status == 0, ran
    page, found = read(tmp_path / "out")
    assert "perplexity" in page.shown
    assert "a perplexity of" in found["verdict"]
    for row in found["measured"]["rows"]:
        assert row["metrics"]["perplexity"] == pytest.approx(math.exp(row["metrics"]["loss"]))
    assert found["measured"]["against"][f"model 2: {b}"]["accuracy_p"] <= 1


def test_what_is_no_fusion_has_no_report(world: World, run: Run) -> None:
    one_line(run("report", world.a), [str(world.a), "transfuse.json", "not a fusion"])
    one_line(run("report", world.here / "no"), ["no"])
    out = world.here / "out"
    assert run("fuse", world.a, world.b, "-o", out).status == 0
    (out / "transfuse.json").write_text("[]")
    one_line(run("report", out), ["is not what fuse writes"])
    (out / "transfuse.json").write_text("{")
    one_line(run("report", out), ["cannot be read"])
    assert run("finetune", world.a, "--data", world.images, "-o", world.here / "tuned").status == 0
    one_line(run("report", world.here / "tuned"), ["was fine-tuned", "transfuse eval"])
    assert not list(world.here.rglob("report.*"))


def test_parents_that_changed_or_went(world: World, run: Run) -> None:
    source = world.damaged(lambda copy: None)
    out = world.here / "out"
    assert run("fuse", world.a, source, "-o", out).status == 0
    config = source / "config.json"
    config.write_text(config.read_text() + " ")
    one_line(run("report", out), [str(source), "changed"])
    shutil.rmtree(source)
    one_line(run("report", out), [str(source)])
    assert not (out / "report.html").exists()


def test_the_verdict_and_the_way_between_the_parents_are_printed(world: World, run: Run) -> None:
    out = world.here / "out"
    ran = run("fuse", world.a, world.b, "-o", out, "--data", world.images, "--merge", "mean", "--report")
    assert (ran.status, ran.err) == (0, "")
    _, found = read(out)
    line = next(iter(found["measured"]["lines"].values()))
    verdict = found["verdict"]
    assert ran.out.count(verdict) == 1
    assert ran.out.index("Fused 2 models") < ran.out.index(verdict) < ran.out.index("Loss on the line")
    shown = [f"{line['points'][index]['loss']:.3f}" for index in (0, 5, 10)]
    assert all(text in ran.out for text in (*shown, f"{line['barrier']:.3f}", f"Report: {out / 'report.html'}"))
    later = run("report", out)
    assert later.out == ran.out.partition("\n")[2]


def test_what_was_measured_stays(world: World, run: Run) -> None:
    out = world.here / "out"
    assert run("fuse", world.a, world.b, "-o", out).status == 0
    assert run("report", out, "--data", world.images).status == 0
    before = world.listing()
    for data in ([], ["--data", world.bare]):
        one_line(run("report", out, *data), ["report.html", "holds measurements", "--data", "-o"])
    assert world.listing() == before
    assert run("report", out, "-o", world.here / "there").status == 0
    assert read(world.here / "there")[1]["measured"] is None


def test_the_card_has_what_the_last_line_of_fuse_measured(world: World, run: Run) -> None:
    out = world.here / "out"
    ran = run("fuse", world.a, world.b, "-o", out, "--data", world.images, "--merge", "mean", "--json")
    quality = json.loads(ran.out)["quality"]
    card = (out / "README.md").read_text()
    assert "Not measured yet" not in card
    assert f"Measured on {quality['models']['fusion']['samples']} samples of" in card
    assert f"| this model | {quality['models']['fusion']['accuracy']:.4f} |" in card


def test_everything_is_written_to_the_home_folder(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(world.here))
    monkeypatch.chdir(world.here)
    assert run("fuse", world.a, world.b, "--output=~/out", "--report").status == 0
    assert run("report", "~/out", "--data", world.images, "--output=~/there").status == 0
    assert {path.parent.name for path in world.here.rglob("report.html")} == {"out", "there"}
    assert not (world.here / "~").exists()


def test_the_card_gets_the_measurements(world: World, run: Run) -> None:
    out = world.here / "out"
    assert run("fuse", world.a, world.b, "-o", out).status == 0
    card = out / "README.md"
    assert "Not measured yet" in card.read_text()
    card.write_text(card.read_text() + "\nMy own words.\n")
    assert run("report", out, "--data", world.images).status == 0
    text = card.read_text()
    _, found = read(out)
    (fusion,) = [row for row in found["measured"]["rows"] if row["role"] == "fusion"]
    assert f"| this model | {fusion['metrics']['accuracy']:.4f} |" in text
    assert "| anchor: a |" in text
    assert found["verdict"] in text
    assert "My own words." in text
    (result,) = ModelCard(text).data.eval_results
    assert (result.metric_type, result.dataset_name, result.dataset_args) == ("accuracy", "images", {"samples": 12})
    card.write_text(text.replace("<!-- measured by transfuse: end -->", ""))
    edited = card.read_text()
    ran = run("report", out, "--data", world.images)
    assert ran.status == 0
    assert "no section of transfuse on quality" in ran.err
    assert card.read_text() == edited


def test_a_report_of_a_split_names_it(world: World, run: Run) -> None:
    data = world.here / "data"
    for split in ("train", "test"):
        shutil.copytree(world.images, data / split)
    out = world.here / "out"
    ran = run("fuse", world.a, world.b, "-o", out, "--data", data, "--merge", "mean", "--report", "--json")
    page, found = read(out)
    assert json.loads(ran.out)["report"] == str(out / "report.html")
    assert json.loads(ran.out)["verdict"] == found["verdict"]
    assert found["measured"]["split"] == "test"
    assert "data (split test)" in page.texts
    assert "split <code>test</code>" in (out / "README.md").read_text()
    (record,) = json.loads(run("eval", out, "--data", data, "--json").out)
    assert (record["path"], record["data"], record["split"]) == (str(out), str(data), "test")
    assert f"measured on {data} (split test)" in run("eval", out, "--data", data).out
    (record,) = json.loads(run("eval", out, "--data", data, "--split", "train", "--json").out)
    assert record["split"] == "train"


def test_samples_in_memory_are_needed_only_if_units_were_matched_on_them(run: Run, tmp_path: Path) -> None:
    paths = [saved(tmp_path / name, gpt2, seed) for seed, name in enumerate("ab")]
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    for merge in ("least-squares", "mean"):
        transfuse.fuse(paths, TEXTS, merge=merge).save(tmp_path / merge)
    assert run("report", tmp_path / "least-squares", "--data", tmp_path / "texts.txt").status == 0
    one_line(run("report", tmp_path / "least-squares", "--lines"), ["lines", "no file of samples", "--data"])
    one_line(
        run("report", tmp_path / "mean", "--data", tmp_path / "texts.txt"),
        ["mean", "samples in memory", "transfuse eval"],
    )
