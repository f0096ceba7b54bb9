"""A merge method is one registered function, from a file or from Python."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from cases import CASES
from safetensors.torch import load_file

import transfuse
from transfuse.config.literals import MERGE_METHODS, LayerOptions
from transfuse.errors import ConfigError, SpecError
from transfuse.merging.methods import MERGE_FUNCTIONS, merge_method
from transfuse.merging.request import MergeRequest
from transfuse.network import registry

VIT = CASES[0]
FULL_NORM = Path(__file__).parents[2] / "examples" / "full_norm.py"


@pytest.fixture(autouse=True)
def only_here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget methods, and files that registered them, after each test."""
    monkeypatch.setattr(registry, "_imported", set())
    before = dict(MERGE_METHODS), dict(MERGE_FUNCTIONS)
    yield
    for current, known in zip((MERGE_METHODS, MERGE_FUNCTIONS), before, strict=True):
        current.clear()
        current.update(known)


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    for seed in (0, 1):
        VIT.build(seed).float().save_pretrained(tmp_path / str(seed))
    return [str(tmp_path / str(seed)) for seed in (0, 1)]


def test_a_file_adds_a_method(paths: list[str], tmp_path: Path) -> None:
    """At the ends are the aligned models; between them it is longer than the mean."""
    options = {"merge": "full-norm", "spec": str(FULL_NORM)}
    longer = transfuse.fuse(paths, **options).model.state_dict()
    line = transfuse.fuse(paths, merge="mean").model.state_dict()
    name = max(longer, key=lambda each: longer[each].numel())
    assert longer[name].norm() > 1.05 * line[name].norm()
    transfuse.fuse(paths, **options, weights=(1, 0)).save(tmp_path / "start")
    transfuse.fuse(paths, merge="mean", weights=(1, 0)).save(tmp_path / "anchor")
    start, anchor = (load_file(tmp_path / each / "model.safetensors") for each in ("start", "anchor"))
    assert all(torch.allclose(start[each], anchor[each], atol=1e-5) for each in anchor)


def test_the_result_streams_as_the_mean_does(paths: list[str], tmp_path: Path) -> None:
    options = {"merge": "full-norm", "spec": str(FULL_NORM)}
    for stream in (False, True):
        transfuse.fuse(paths, **options, stream=stream).save(tmp_path / str(stream))
    loaded, streamed = (load_file(tmp_path / str(stream) / "model.safetensors") for stream in (False, True))
    assert all(torch.equal(streamed[name], loaded[name]) for name in streamed)


def test_a_method_may_need_data_and_add_to_the_record(paths: list[str]) -> None:
    @merge_method("half", needs_data=True)
    def half(request: MergeRequest) -> dict[str, torch.Tensor]:
        return dict(request.parents[0])

    @merge_method("noted")
    def noted(request: MergeRequest) -> dict[str, torch.Tensor]:
        request.record["note"] = len(request.parents)
        return dict(request.parents[0])

    with pytest.raises(ConfigError, match="merge: half needs samples; give data"):
        transfuse.fuse(paths, merge="half")
    assert transfuse.fuse(paths, merge="noted").record["note"] == 2


def test_a_method_may_take_a_density_and_negative_weights(tmp_path: Path) -> None:
    model = VIT.build(0).float()
    for name in ("base", "a", "b"):
        model.save_pretrained(tmp_path / name)
        with torch.no_grad():
            model.classifier.weight.mul_(0.9)
    base, *paths = (str(tmp_path / name) for name in ("base", "a", "b"))
    seen: list[LayerOptions] = []

    @merge_method("sparse", needs_base=True, sparse=True, summed=True)
    def sparse(request: MergeRequest) -> dict[str, torch.Tensor]:
        seen.append(request.layers)
        return dict(request.parents[0])

    merge_method("dense", needs_base=True)(sparse)
    options = {"density": 0.3, "weights": (1, -0.5), "base": base}
    transfuse.fuse(paths, merge="sparse", **options)
    assert (seen[0].densities, seen[0].weights) == ((0.3,), (1.0, -0.5))
    with pytest.raises(ConfigError, match="density: only merge ties, dare-linear, dare-ties, sparse take it"):
        transfuse.fuse(paths, merge="dense", **options)
    with pytest.raises(ConfigError, match="negative numbers; choose merge task-arithmetic or dare-linear or sparse"):
        transfuse.fuse(paths, merge="dense", weights=(1, -0.5), base=base)


def test_an_unknown_method_is_refused_with_the_nearest(paths: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"merge: 'slurp' is not one of auto, mean, .*"):
        transfuse.fuse(paths, merge="slurp")
    with pytest.raises(ConfigError, match=r"did you mean mean\?"):
        transfuse.fuse(paths, merge="meen", spec=str(FULL_NORM))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (
            lambda weight: weight[:1],
            r"^classifier.weight: has shape \(1, \d+\) instead of \(\d+, \d+\); give each tensor",
        ),
        (lambda weight: None, r"^classifier.weight: this tensor is missing; give each tensor"),
    ],
)
def test_what_a_method_returns_is_checked(
    paths: list[str], tmp_path: Path, stream: bool, wrong: Callable[[torch.Tensor], torch.Tensor | None], line: str
) -> None:
    @merge_method("wrong")
    def merge(request: MergeRequest) -> dict[str, torch.Tensor]:
        changed = dict(request.parents[0]) | {"classifier.weight": wrong(request.parents[0]["classifier.weight"])}
        return {name: values for name, values in changed.items() if values is not None}

    with pytest.raises(SpecError, match=line):
        transfuse.fuse(paths, merge="wrong", stream=stream).save(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_method_that_returns_no_tensors_is_refused(paths: list[str]) -> None:
    merge_method("nothing")(lambda request: None)  # type: ignore[arg-type,return-value]
    with pytest.raises(SpecError, match="merge nothing: returned a NoneType; return tensors by name"):
        transfuse.fuse(paths, merge="nothing")
