"""Options are what they say, or one line says what is wrong with them and where."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from transfuse.config.flow_options import FlowOptions
from transfuse.config.job import Job
from transfuse.config.make import make
from transfuse.config.options import Options
from transfuse.config.settings import torch_dtype
from transfuse.config.yaml_file import read
from transfuse.errors import ConfigError


def refuses(values: Mapping[str, Any], *words: str, labels: Mapping[str, str] | None = None) -> None:
    with pytest.raises(ConfigError) as caught:
        make(Job, values, labels)
    message = str(caught.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == [], message


def written(folder: Path, text: str) -> Path:
    (folder / "job.yaml").write_text(text, encoding="utf-8")
    return folder / "job.yaml"


def loaded(folder: Path, text: str) -> Job:
    return make(Job, *read(written(folder, text)))


def test_defaults_are_exact_alignment_and_with_data_least_squares() -> None:
    options = make(Options, {})
    assert (options.align, options.merge, options.match_on, options.batch_size) == ("exact", "auto", "auto", 100)
    assert (options.merging(False), options.merging(True)) == ("mean", "least-squares")
    assert make(Options, {"align": "flow"}).merging(True) == "mean"
    assert options.normalized_weights(4) == [0.25] * 4
    assert (options.sample_count(), make(Options, {"align": "flow"}).sample_count()) == (2000, 200)
    assert make(Options, {"align": "flow", "samples": 7}).sample_count() == 7
    assert torch_dtype(options.dtype) is None
    assert torch_dtype(make(Options, {"dtype": "bfloat16"}).dtype) is torch.bfloat16
    assert make(Options, {"device": "cpu"}).torch_device() == torch.device("cpu")


def test_no_density_may_be_written_out(tmp_path: Path) -> None:
    assert loaded(tmp_path, "models: [a, b]\ndensity:\n").density is None
    with pytest.raises(ConfigError, match="density: 0 given for 2 models"):
        make(Options, {"density": [], "merge": "ties"}).normalized_weights(2)


def test_a_job_passes_on_only_what_was_chosen_of_the_fusion() -> None:
    job = make(Job, {"models": ("a", "b"), "output": "out", "align": "flow", "overwrite": True, "seed": 0})
    assert job.options() == {"align": "flow", "seed": 0}
    assert make(Options, job.options()).align == "flow"


NAMED = ("support", "regularization", "match_on", "learning_rate", "augment")  # wherever they stand among the values


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"algin": "flow"}, ["algin", "no such option", "did you mean 'align'?"]),
        ({"batch-sise": 1}, ["did you mean 'batch_size'?"]),
        ({"zzz": 1}, ["zzz", "known: "]),
        ({"align": "exat"}, ["align", "'exat'", "none, flow, exact", "did you mean exact?"]),
        ({"align": None}, ["align", "None", "valid string"]),
        ({"align": 3}, ["align", "3"]),
        ({"samples": 0}, ["samples", "greater than or equal to 1"]),
        ({"samples": "20"}, ["samples", "valid integer", "'20'"]),
        ({"data": "d", "grow": 1}, ["grow", "greater than 1"]),
        ({"data": "d", "grow": 2.1}, ["grow", "less than or equal to 2"]),
        ({"grow": 1.5}, ["grow", "give data"]),
        ({"samples": 500}, ["samples", "give data"]),
        ({"align": "flow", "flow": {"max_loss": 1.0}}, ["flow.max_loss", "give data"]),
        ({"align": "flow", "flow": {"tokens": "class"}}, ["flow.tokens", "give data"]),
        ({"align": "flow", "flow": {"values": "context"}}, ["flow.values", "give data"]),
        ({"align": "flow", "flow": {"plan": "uniform", "cost": "cosine"}}, ["flow.cost", "uniform plan"]),
        ({"data": "d", "merge": "mean", "grow": 1.5}, ["grow", "not mean"]),
        ({"data": "d", "adapter_out": 2, "grow": 1.5}, ["grow", "adapter_out"]),
        ({"data": "d", "base": "c", "merge": "learned", "grow": 1.5}, ["grow", "task vectors"]),
        ({"samples": 2.5}, ["samples", "valid integer", "2.5"]),
        ({"samples": True}, ["samples", "valid integer", "True"]),
        ({"seed": -1}, ["seed"]),
        ({"overwrite": "yes"}, ["overwrite", "valid boolean", "'yes'"]),
        ({"allow_pickle": 1}, ["allow_pickle", "valid boolean"]),
        ({"align": "flow", "flow": {"regularization": True}}, ["regularization", "should be a number", "True"]),
        ({"align": "flow", "flow": {"regularization": float("inf")}}, ["regularization", "finite"]),
        ({"align": "flow", "flow": {"regularization": -0.1}}, ["regularization", "greater than 0"]),
        ({"data": "d", "align": "learned", "merge": "mean", "minutes": 1}, ["minutes", "give steps"]),
        ({"data": "d", "align": "learned", "merge": "least-squares", "effort": "high"}, ["give steps"]),
        (
            {"data": "d", "merge": "learned", "learning_rate": 0.1, "effort": "quick"},
            ["effort quick", "does not train"],
        ),
        ({"data": "d", "merge": "learned", "augment": "none", "effort": "quick"}, ["does not train"]),
        ({"weights": [1, -1]}, ["weights: only task vectors that are summed take negative numbers", "dare-linear"]),
        ({"merge": "slerp", "weights": [{"mlp": -1, "*": 1}, 1]}, ["weights: only task vectors"]),
        ({"merge": "ties", "base": "c", "weights": [1, -1]}, ["weights: only task vectors", "task_weights sum"]),
        (
            {"merge": "dare-linear", "base": "c", "task_weights": "mean", "weights": [1, [-1, 1]]},
            ["weights: only task vectors"],
        ),
        ({"merge": "ties", "base": "c", "density": [0.5, -0.5]}, ["density", "-0.5"]),
        ({"weights": [float("nan"), 1]}, ["weights: item 1", "nan"]),
        ({"weights": [True, 1]}, ["weights: item 1", "should be a number"]),
        ({"weights": 3}, ["weights", "valid list", "3"]),
        ({"weights": [[], 1]}, ["weights: item 1", "one or more numbers"]),
        ({"weights": [{}, 1]}, ["weights: item 1", "should have an entry"]),
        ({"weights": "0.2:x,1"}, ["weights: item 1", "should be a number", "0.2:x"]),
        ({"merge": "ties", "base": "c", "density": [0.5, 1.5]}, ["density", "1.5"]),
        ({"density": [0.5]}, ["density", "only merge ties, dare-linear, dare-ties take it"]),
        ({"merge": "ties"}, ["merge: ties", "give base"]),
        ({"task_scale": 2}, ["task_scale", "with base"]),
        ({"base": "c"}, ["base: merge mean has no use for it"]),
        ({"merge": "ties", "align": "flow", "base": "c"}, ["base: align flow has no use for it"]),
        ({"base": "c", "merge": "ties", "basis": "common"}, ["basis", "aligned to the anchor"]),
        ({"merge": "learned", "data": "d", "weights": [[0, 1], 1]}, ["weights", "one weight per model"]),
        ({"models": "a"}, ["models", "valid list", "'a'"]),
        ({"models": ["a", 2]}, ["models: item 2", "valid string"]),
        ({"data": 5}, ["data", "valid string"]),
        ({"align": "none", "flow": {"regularization": 0.1}}, ["regularization", "align flow"]),
        ({"align": "flow", "flow": {"plan": "uniform", "regularization": 0.1}}, ["regularization", "uniform"]),
        ({"align": "flow", "flow": {"regularization": 0.1, "support": 4.0}}, ["support", "give one"]),
        ({"align": "flow", "flow": {"scale": "mean", "support": 4.0}}, ["flow.scale", "leave it out"]),
        ({"align": "flow", "flow": {"support": 1.0}}, ["support", "greater than 1"]),
        ({"flow": {"support": 4.0}}, ["support", "align flow"]),
        ({"align": "flow", "flow": {"queries": "joint", "heads": "aware"}}, ["flow.heads", "joint", "leave it out"]),
        ({"align": "flow", "match_on": "both"}, ["match_on", "choose one"]),
        ({"flow": {"plan": "hard"}}, ["flow.plan", "only align flow takes it"]),
        ({"align": "flow", "flow": {"plan": "herd"}}, ["flow.plan", "'herd' is not one of", "did you mean hard?"]),
        ({"align": "flow", "flow": {"paln": "hard"}}, ["flow.paln", "no such option", "did you mean 'plan'?"]),
        ({"align": "flow", "flow": {"keep": ["head", "tail"]}}, ["flow.keep: item 2", "'tail'"]),
        ({"align": "flow", "flow": 3}, ["flow"]),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(values: dict[str, Any], words: list[str]) -> None:
    refuses(values, *words)
    name = next(name for name in (*NAMED, *reversed(values)) if name in values)
    if name != "flow":
        refuses(values, "job.yaml, line 9: it", labels={name: "job.yaml, line 9: it"})


@pytest.mark.parametrize(
    "option", [{"transform": "raw"}, {"values": "context"}, {"tokens": "class"}, {"max_loss": 1.0}]
)
def test_options_of_activations_are_refused_where_weights_are_matched(option: dict[str, Any]) -> None:
    values = {"data": "d", "align": "flow", "flow": option}
    refuses(values | {"match_on": "weights"}, f"flow.{next(iter(option))}", "match_on activations")
    make(Job, values)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"teacher_weighting": "confidence", "merge": "mean"}, "it needs {}data, and {}merge least-squares"),
        ({"head": "anchor", "merge": "learned", "data": "d"}, "with {}head anchor .* choose {}merge least-squares"),
        ({"grow": 1.5}, "give {}data"),
        ({"merge": "ties"}, "give {}base"),
        ({"merge": "learned"}, "give {}data, or choose mean"),
    ],
)
def test_advice_names_flags_on_the_command_line_only(values: dict[str, Any], words: str) -> None:
    for labels, dashes in (({}, ""), ({"models": "MODELS"}, "--")):
        with pytest.raises(ConfigError, match=" " + words.format(dashes, dashes)):
            make(Job, values, labels)


def test_what_is_written_may_lie_in_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    job = make(Job, {"output": "~/out", "cache": "~/cache", "maps": "~/maps.safetensors"})
    assert (job.output, job.cache, job.maps) == ("/home/me/out", "/home/me/cache", "/home/me/maps.safetensors")
    assert make(Job, {"output": "out~"}).output == "out~"


def test_an_option_left_at_none_is_not_given() -> None:
    assert make(Options, {"flow": {"regularization": None}, "samples": None}).align == "exact"


@pytest.mark.parametrize(
    ("weights", "models", "words"),
    [((1, 2), 3, "2 given for 3"), ((), 2, "0 given for 2"), ((0, 0), 2, "positive"), ((1e308, 1e308), 2, "finite")],
)
def test_weights_have_to_fit_the_models(weights: tuple[float, ...], models: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make(Options, {"weights": weights}).normalized_weights(models)
    with pytest.raises(ConfigError, match=r"^job.yaml, line 4: weights: "):
        make(Options, {"weights": weights}).normalized_weights(models, {"weights": "job.yaml, line 4: weights"})


@pytest.mark.parametrize("weights", [[3, 1], (0.3, 0.1), "3,1", " 0.75 , 0.25"])
def test_weights_are_normalised_however_they_are_written(weights: object) -> None:
    assert make(Options, {"weights": weights}).normalized_weights(2) == pytest.approx([0.75, 0.25])


@pytest.mark.parametrize("name", ["abacus", "cuda:99", "meta", "vulkan", ""])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"device: .* cannot be used here .*; try cpu") as caught:
        make(Options, {"device": name}).torch_device()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_file_holds_every_option_in_either_spelling(tmp_path: Path) -> None:
    job = loaded(
        tmp_path,
        """\
# a comment
models: [a, "ünï code"]
data: digits
output: out
overwrite: true
report: true
align: flow
merge: mean
match-on: activations
flow:
  plan: soft
  regularization: 1e-2
  cost: cosine
  scale: mean
  transform: raw
  policy: scalar
  queries: shared
  values: context
  heads: aware
  tokens: window-6
  max-loss: 0.5
  keep: [head, biases]
weights: [1, 3]
samples: 50
batch-size: 8
seed: 3
device: cpu
dtype: float16
adapter-out: 16
vocab: shared
head: anchor
positions: anchor
settings: anchor
allow-pickle: false
spec: mine.py
cache: kept
push-to-hub: user/name
private: true
max-memory: 8GB
max-device-memory: 20GB
""",
    )
    assert job.models == ("a", "ünï code")
    assert (job.batch_size, job.flow.regularization, job.overwrite, job.allow_pickle) == (8, 0.01, True, False)
    assert (job.cache, job.max_memory, job.max_device_memory) == ("kept", 8 * 10**9, 20 * 10**9)
    learning = loaded(
        tmp_path,
        """\
align: learned
data: digits
groups: permutations
basis: common
teacher-weighting: confidence
objective: parents
split: train
text-column: body
label_column: kind
image_column: photo
lines: true
stride: 32
block-size: 64
steps: 10
learning-rate: 1e-3
augment: flip
""",
    )
    assert (learning.steps, learning.learning_rate) == (10, 0.001)
    support = loaded(tmp_path, "align: flow\nflow: {support: 4}\n").flow
    assert support.support == 4
    assert loaded(tmp_path, "merge: learned\ndata: digits\neffort: high\n").options()["effort"] == "high"
    assert loaded(tmp_path, "merge: learned\ndata: digits\nminutes: 0.5\n").learning().minutes == 0.5
    one_base = loaded(
        tmp_path,
        """\
models: [a, b]
base: origin
merge: ties
density: 0.2:0.8,1
task-scale: 0.7
task-weights: sum
weights: [[0, 0.5, 1], {attention: 0.5, "*": [1, 0]}]
""",
    )
    assert (one_base.density, one_base.task_scale) == (((0.2, 0.8), 1.0), 0.7)
    assert one_base.weights == ((0.0, 0.5, 1.0), {"attention": 0.5, "*": (1.0, 0.0)})
    assert one_base.normalized_weights(2) == [0.5, 0.5]
    assert loaded(tmp_path, "models: [a, b]\nbase: c\nmerge: ties\ndensity: 0.3\n").density == (0.3,)
    assert loaded(tmp_path, "data: digits\ngrow: 1.5\n").grow == 1.5
    assert loaded(tmp_path, "maps: maps.safetensors\n").maps == "maps.safetensors"
    given = set(job.model_fields_set) | set(learning.model_fields_set) | {"effort", "minutes", "grow", "maps"}
    given |= one_base.model_fields_set
    assert given == set(Job.model_fields), "an option that this test forgot"
    assert job.flow.model_fields_set | support.model_fields_set == set(FlowOptions.model_fields)
    assert loaded(tmp_path, "batch_size: 8").batch_size == 8


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "\ufeffalign: exact\n"])
def test_a_file_may_be_empty(text: str, tmp_path: Path) -> None:
    assert loaded(tmp_path, text).align == "exact"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("align: flow\nflow:\n  plan: x\n", ["line 3: flow.plan", "'x' is not one of"]),
        ("align: flow\nflow:\n  plan: soft\n  plan: hard\n", ["line 4: flow.plan", "twice"]),
        ("align: flow\nflow: {1: soft}\n", ["line 2", "name of an option"]),
        ("align: flow\nalgin: flow\n", ["line 2: algin", "did you mean 'align'?"]),
        ("align: flow\n\nbatch-size: many\n", ["line 3: batch-size", "valid integer", "'many'"]),
        ("align: flow\nalign: exact\n", ["line 2: align", "twice"]),
        ("batch-size: 1\nbatch_size: 1\n", ["line 2: batch_size", "twice"]),
        ("- align\n", ["mapping"]),
        ("flow\n", ["mapping"]),
        ("align: [flow\n", ["line 2", "not plain YAML"]),
        ("a: 1\n---\nb: 2\n", ["line 2: a second YAML document"]),
        ("1: flow\n", ["line 1", "name of an option"]),
        ("? [align]\n: flow\n", ["line 1", "not plain YAML"]),
        ("? {a: b}\n: flow\n", ["job.yaml"]),
        ("<<: {align: flow}\n", ["line 1", "name of an option"]),
        ("align: !!python/object/apply:os.getcwd []\n", ["line 1", "not plain YAML"]),
        ("align: " + "[" * 5000, ["job.yaml"]),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_file_that_is_not_a_list_of_options_is_refused(text: str, words: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text)
    message = str(caught.value)
    assert [word for word in ["job.yaml", *words] if word not in message] == [], message
    assert "\n" not in message


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read(tmp_path / "no.yaml")
    with pytest.raises(ConfigError, match="directory"):
        read(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("output: ü".encode("latin-1"))
    with pytest.raises(ConfigError, match="UTF-8"):
        read(tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    "weights",
    [torch.tensor([0.25, 0.75]), np.array([0.25, 0.75]), (np.float32(0.25), 0.75), [torch.tensor(0.25), 0.75]],
)
def test_numbers_of_numpy_and_torch_are_numbers(weights: Any) -> None:
    options = make(Options, {"weights": weights, "seed": np.int64(3), "samples": torch.tensor(7)})
    assert (options.weights, options.seed, options.samples) == ((0.25, 0.75), 3, 7)
    assert type(options.seed) is int
    refuses({"models": ["a", "b"], "output": "o", "seed": np.float64(1)}, "seed", "should be a valid integer")
