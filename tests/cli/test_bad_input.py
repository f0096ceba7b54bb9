"""Whatever is wrong with what a user gives ends in status 2 and one line that says so, and nothing is written."""

import os
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_inputs import Run, World, one_line

Arguments = Callable[[World], Sequence[object]]
HEAD, NORM = "classifier.weight", "vit.layernorm.weight"


def fused(*more: object, other: Callable[[World], Path] = lambda w: w.b) -> Arguments:
    """`transfuse fuse A OTHER -o OUT ...`"""
    return lambda w: ["fuse", w.a, other(w), "-o", w.here / "out", *more]


def fused_with(other: Callable[[World], Path], *more: object) -> Arguments:
    return fused(*more, other=other)


def onto(path: Callable[[World], Path], *more: object) -> Arguments:
    """`transfuse fuse A B -o PATH ...`"""
    return lambda w: ["fuse", w.a, w.b, "-o", path(w), *more]


def truncate(copy: Path) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def remove(name: str) -> Callable[[World], Path]:
    return lambda w: w.edited(lambda tensors: tensors.pop(name))


def spoil(name: str, value: float) -> Callable[[World], Path]:
    return lambda w: w.edited(lambda tensors: tensors[name].view(-1)[3:4].fill_(value))


def occupied(w: World) -> Path:
    (w.here / "out").mkdir()
    return w.file("out/notes.txt", "mine").parent


def broken_image(w: World) -> Path:
    (w.here / "images").mkdir()
    return w.file("images/0.png", "not a picture").parent


def configured(text: str, *more: object) -> Arguments:
    return lambda w: ["fuse", "--config", w.file("job.yaml", text.format(a=w.a, b=w.b, out=w.here / "out")), *more]


MODELS: dict[str, tuple[Arguments, Sequence[str]]] = {
    "width, exact": (fused_with(lambda w: w.wide), ["16", "24", "put it first"]),
    "width, none": (fused_with(lambda w: w.wide, "--align", "none"), ["16", "24", "--align flow"]),
    "depth": (fused_with(lambda w: w.deep), ["deep", "has 3 blocks, the anchor has 2", "give --data"]),
    "classes": (fused_with(lambda w: w.many), ["num_labels", "is 5, the anchor's is 2"]),
    "image size": (fused_with(lambda w: w.large), ["image_size is 16, the anchor's is 8"]),
    "other architecture": (fused_with(lambda w: w.foreign), ["foreign", "ErnieForQuestionAnswering"]),
    "unsupported alone": (
        lambda w: ["fuse", w.foreign, w.foreign, "-o", w.here / "out"],
        ["foreign", "is not supported"],
    ),
    "unsupported, eval": (lambda w: ["eval", w.foreign, "--data", w.images], ["images", "no text column"]),
    "unsupported, path": (lambda w: ["path", w.a, w.foreign, "--data", w.images], ["foreign", "is not supported"]),
    "no such folder": (fused_with(lambda w: w.here / "no"), ["no such directory", "check the path"]),
    "odd architectures": (
        fused_with(
            lambda w: w.damaged(lambda d: (d / "config.json").write_text('{"model_type": "vit", "architectures": [3]}'))
        ),
        ["damaged", "architectures", "[3]"],
    ),
    "a file": (fused_with(lambda w: w.words), ["words.jsonl", "is a file"]),
    "no config": (fused_with(lambda w: w.damaged(lambda d: (d / "config.json").unlink())), ["no config.json"]),
    "broken config": (fused_with(lambda w: w.damaged(lambda d: (d / "config.json").write_text("{"))), ["config.json"]),
    "no weights": (fused_with(lambda w: w.damaged(lambda d: (d / "model.safetensors").unlink())), ["no weights"]),
    "missing tensor": (fused_with(remove(HEAD)), ["damaged", "missing", HEAD]),
    "truncated": (fused_with(lambda w: w.damaged(truncate)), ["model.safetensors", "damaged"]),
    "corrupt": (
        fused_with(lambda w: w.damaged(lambda d: (d / "model.safetensors").write_bytes(b"\xff" * 500))),
        ["model.safetensors", "damaged"],
    ),
    "NaN": (fused_with(spoil(NORM, float("nan"))), ["damaged", NORM, "NaN"]),
    "infinite": (fused_with(spoil(HEAD, float("-inf"))), ["damaged", HEAD, "infinite"]),
    "NaN, eval": (lambda w: ["eval", spoil(NORM, float("nan"))(w), "--data", w.images], [NORM]),
    "pickle": (fused_with(World.pickled), ["pytorch_model.bin", "--allow-pickle"]),
}

DATA: dict[str, tuple[Arguments, Sequence[str]]] = {
    "no such file": (fused("--data", "/no/such.parquet"), ["/no/such.parquet", "no such file"]),
    "no images": (lambda w: [*fused()(w), "--data", w.words], ["words.jsonl", "no image column", "'text'"]),
    "not an image": (lambda w: [*fused()(w), "--data", broken_image(w)], ["0.png", "decoded"]),
    "unlabelled, eval": (lambda w: ["eval", w.a, "--data", w.bare], ["bare", "label"]),
    "none for activations": (fused("--match-on", "activations"), ["activations", "--data"]),
}

OUTPUTS: dict[str, tuple[Arguments, Sequence[str]]] = {
    "not empty": (onto(occupied), ["out", "not empty", "--overwrite"]),
    "no model, overwrite": (onto(occupied, "--overwrite"), ["out", "does not look like a model"]),
    "an input": (onto(lambda w: w.a, "--overwrite"), ["must stay"]),
    "around an input": (onto(lambda w: w.a.parent, "--overwrite"), ["must stay"]),
    "a file": (onto(lambda w: w.file("out", "mine")), ["out", "file"]),
    "below a file": (onto(lambda w: w.file("file", "mine") / "out"), ["file", "cannot be written"]),
    "not writable": (onto(lambda w: Path("/proc/out")), ["/proc/out", "cannot be written"]),
    "not UTF-8": (onto(lambda w: w.here / "\udcff"), ["UTF-8"]),
    "plot of unknown kind": (lambda w: ["path", w.a, w.b, "--data", w.images, "--plot", "x.gif"], [".png", ".svg"]),
    "plot to nowhere": (lambda w: ["path", w.a, w.b, "--data", w.images, "--plot", w.here / "no/x.png"], ["x.png"]),
    "plot onto a folder": (
        lambda w: ["path", w.a, w.b, "--data", w.images, "--plot", w.damaged(lambda d: None).rename(w.here / "d.png")],
        ["d.png", "directory"],
    ),
    "demo below a file": (lambda w: ["demo", "-o", w.file("file", "mine") / "demo"], ["file", "cannot be written"]),
}

OPTIONS: dict[str, tuple[Arguments, Sequence[str]]] = {
    "unknown option": (fused("--algin", "flow"), ["--algin", "did you mean --align?", "transfuse fuse --help"]),
    "unlike any option": (fused("--zzz"), ["--zzz", "transfuse fuse --help"]),
    "unknown command": (lambda w: ["fues"], ["fues", "Did you mean 'fuse'?"]),
    "value of align": (fused("--align", "flwo"), ["--align", "'flwo'", "none, flow, exact", "did you mean flow?"]),
    "value of merge": (fused("--merge", "median"), ["--merge", "'median'", "mean"]),
    "value of evidence": (fused("--match-on", "x"), ["--match-on", "activations, weights, both"]),
    "value of plan": (fused("--align", "flow", "--flow.plan", "x"), ["--flow.plan", "soft, hard, widening, uniform"]),
    "value of dtype": (fused("--dtype", "int8"), ["--dtype", "'int8'", "float32"]),
    "plan without flow": (fused("--flow.plan", "hard"), ["--flow.plan", "align flow"]),
    "regularization without flow": (fused("--flow.regularization", "0.1"), ["--flow.regularization", "align flow"]),
    "regularization of hard": (
        fused("--align", "flow", "--flow.plan", "hard", "--flow.regularization", "0.1"),
        ["--flow.regularization", "hard"],
    ),
    "regularization zero": (fused("--align", "flow", "--flow.regularization", "0"), ["--flow.regul", "greater than 0"]),
    "regularization nan": (fused("--align", "flow", "--flow.regularization", "nan"), ["--flow.regul", "finite"]),
    "flow by both": (fused("--align", "flow", "--match-on", "both"), ["--match-on", "choose one"]),
    "training below another head": (
        fused("--data", "d", "--head", "anchor", "--effort", "quick"),
        ["--effort: with head anchor, nothing is trained; leave it out"],
    ),
    "no samples": (fused("--samples", "0"), ["--samples", "0"]),
    "samples in words": (fused("--samples", "many"), ["--samples"]),
    "no batch": (fused("--batch-size", "-1"), ["--batch-size", "-1"]),
    "negative seed": (fused("--seed", "-1"), ["--seed", "-1"]),
    "no such device": (fused("--device", "abacus"), ["device", "'abacus'", "try cpu"]),
    "device without numbers": (fused("--device", "meta"), ["device", "'meta'"]),
    "three weights": (fused("--weights", "1,1,1"), ["3 given for 2 models"]),
    "no weights": (fused("--weights", ""), ["--weights"]),
    "weights of nothing": (fused("--weights", "0,0"), ["positive"]),
    "weights in words": (fused("--weights", "1,half"), ["--weights", "item 2", "'half'"]),
    "negative weight": (fused("--weights", "2,-1"), ["--weights", "only task vectors that are summed"]),
    "too few points": (lambda w: ["path", w.a, w.b, "--data", w.images, "--points", "2"], ["--points"]),
    "no limit": (lambda w: ["eval", w.a, "--data", w.images, "--limit", "0"], ["--limit"]),
    "no models": (lambda w: ["fuse", "-o", w.here / "out"], ["MODELS: 0 given", "two or more"]),
    "one model": (lambda w: ["fuse", w.a, "-o", w.here / "out"], ["MODELS: 1 given", "two or more"]),
    "no output": (lambda w: ["fuse", w.a, w.b], ["-o OUT"]),
    "no value": (lambda w: ["fuse", w.a, w.b, "-o"], ["-o"]),
    "eval without models": (lambda w: ["eval", "--data", w.images], ["MODEL", "transfuse eval --help"]),
    "eval without data": (lambda w: ["eval", w.a], ["--data"]),
    "path without other": (lambda w: ["path", w.a, "--data", w.images], ["OTHER"]),
    "unknown key": (
        configured("models: [{a}, {b}]\noutput: {out}\nzzzz: 1\n"),
        ["job.yaml, line 3: zzzz", " text_column, label_column"],
    ),
    "config of nothing": (lambda w: ["fuse", "--config", w.here / "no.yaml"], ["no.yaml", "No such file"]),
    "config, unknown key": (
        configured("models: [{a}, {b}]\n\nalgin: flow\n"),
        ["job.yaml, line 3: algin", "did you mean 'align'?"],
    ),
    "config, weights": (
        configured("models: [{a}, {b}]\noutput: {out}\nweights: [1, 2, 3]\n"),
        ["job.yaml, line 3: weights: 3 given for 2 models"],
    ),
    "config, three models for slerp": (
        configured("models: [{a}, {b}, {a}]\noutput: {out}\nmerge: slerp\n"),
        ["job.yaml, line 3: merge: slerp takes two models, not 3"],
    ),
    "config, head": (
        configured("models: [{a}, {b}]\noutput: {out}\ndata: {a}\nmerge: learned\nhead: anchor\n"),
        ["job.yaml, line 5: head: training follows", "--merge least-squares or mean"],
    ),
    "config, bad value": (configured("models: [{a}, {b}]\nbatch-size: none\n"), ["job.yaml, line 2: batch-size"]),
    "config, NUL": (configured('models: ["{a}", "{b}"]\noutput: "x\\0y"\n'), ["x\\x00y", "UTF-8"]),
    "config, one model": (configured("models: ['{a}']\noutput: '{out}'\n"), ["MODELS: 1 given"]),
    "config, bad flag": (configured("align: flow\n", "--align", "x"), ["--align", "'x'"]),
}


def table(cases: dict[str, tuple[Arguments, Sequence[str]]], kind: str) -> list[Any]:
    return [pytest.param(*case, id=f"{kind}: {name}") for name, case in cases.items()]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [*table(MODELS, "model"), *table(DATA, "data"), *table(OUTPUTS, "output"), *table(OPTIONS, "option")],
)
def test_one_line_and_nothing_written(arguments: Arguments, words: Sequence[str], world: World, run: Run) -> None:
    given = arguments(world)
    parents = {path: path.read_bytes() for path in world.a.iterdir()}
    beside = sorted(os.listdir(world.a.parent))
    before = world.listing()
    one_line(run(*given), words)
    assert world.listing() == before
    assert {path: path.read_bytes() for path in world.a.iterdir()} == parents
    assert sorted(os.listdir(world.a.parent)) == beside


def test_the_damage_is_what_is_refused(world: World, run: Run) -> None:
    """The same copy and the same command without the damage pass: the table above tests what it says."""
    copy = world.edited(lambda tensors: None)
    assert run("fuse", world.a, copy, "-o", world.here / "out", "--data", world.images).status == 0
    assert run("eval", copy, "--data", world.images).status == 0
    assert run("fuse", world.a, world.wide, "-o", world.here / "flow", "--align", "flow").status == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(lambda w: ["fuse", "/no/a", "/no/b", "-o", occupied(w)], ["not empty"], id="output, then models"),
        pytest.param(
            lambda w: ["fuse", "/no/a", "/no/b", "-o", "out", "--align", "x"], ["--align"], id="options first"
        ),
        pytest.param(
            lambda w: ["path", "/no/a", "/no/b", "--data", "/no/c", "--plot", "/no/x.png"],
            ["/no/x.png"],
            id="plot first",
        ),
        pytest.param(
            lambda w: ["fuse", spoil(NORM, float("nan"))(w), w.b, "-o", w.here / "out", "--data", "/no/data"],
            ["/no/data"],
            id="data, then weights",
        ),
        pytest.param(
            lambda w: ["fuse", spoil(NORM, float("nan"))(w), "/no/b", "-o", w.here / "out"],
            ["/no/b"],
            id="all models there, then weights",
        ),
        pytest.param(
            lambda w: ["eval", spoil(NORM, float("nan"))(w), w.foreign, "--data", w.images],
            ["no text column"],
            id="kinds, then weights",
        ),
        pytest.param(
            lambda w: ["eval", spoil(NORM, float("nan"))(w), "--data", w.bare], ["label"], id="labels, then weights"
        ),
        pytest.param(
            lambda w: ["fuse", spoil(NORM, float("nan"))(w), w.b, "-o", w.here / "out", "--match-on", "both"],
            ["--data"],
            id="evidence, then weights",
        ),
    ],
)
def test_of_two_mistakes_the_cheaper_is_found_first(
    arguments: Arguments, words: Sequence[str], world: World, run: Run
) -> None:
    one_line(run(*arguments(world)), words)


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


def test_a_pickle_is_read_on_request_but_never_run(world: World, run: Run) -> None:
    copy, mark = world.pickled(), world.here / "mark"
    done = run("fuse", world.a, copy, "-o", world.here / "out", "--allow-pickle")
    assert done.status == 0, done
    trap = pickle.dumps(Trap(mark))
    pickle.loads(trap)
    assert mark.exists(), "the trap does not work"
    mark.unlink()
    torch.save({"weight": Trap(mark)}, copy / "pytorch_model.bin")
    one_line(run("fuse", world.a, copy, "-o", world.here / "two", "--allow-pickle"), ["pytorch_model.bin"])
    assert not mark.exists()
    assert not (world.here / "two").exists()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(13, "Permission denied", "/some/file"), ["/some/file", "Permission denied"]),
        (OSError("odd"), ["odd"]),
        (MemoryError(), ["out of memory", "--batch-size"]),
        (torch.linalg.LinAlgError("linalg.svd: did not converge"), ["failed numerically", "linalg.svd"]),
        (RuntimeError("CUDA out of memory. Tried to allocate\n20 GiB"), ["out of memory", "--batch-size"]),
        (RuntimeError("could not create a primitive"), ["out of memory", "--batch-size"]),
    ],
)
def test_what_the_machine_refuses_is_one_line_too(
    error: Exception, words: Sequence[str], world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("transfuse.cli.jobs.fuse.match", refuse)
    one_line(run("fuse", world.a, world.b, "-o", world.here / "out"), words)


def test_a_bug_is_not_taken_for_a_mistake(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*arguments: object, **options: object) -> None:
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr("transfuse.cli.jobs.fuse.match", break_down)
    with pytest.raises(RuntimeError, match="multiplied"):
        run("fuse", world.a, world.b, "-o", world.here / "out")
