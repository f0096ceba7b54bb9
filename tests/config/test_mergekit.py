"""A file of mergekit becomes options of the same meaning, or one line says what to write instead."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from transfuse.config.job import Job
from transfuse.config.make import make
from transfuse.config.mergekit import is_mergekit, translate
from transfuse.config.yaml_file import read
from transfuse.errors import ConfigError

TIES: dict[str, Any] = {
    "merge_method": "ties",
    "base_model": "base",
    "models": [
        {"model": "base"},
        {"model": "a", "parameters": {"weight": 1.0, "density": [1, 0.7, 0.1]}},
        {"model": "b", "parameters": {"weight": [{"filter": "mlp", "value": 0.5}, {"value": [0, 1]}]}},
    ],
    "parameters": {"normalize": True, "int8_mask": True},
    "dtype": "float16",
}
SLICE = [{"model": name, "layer_range": [0, 4], "parameters": {"weight": 1}} for name in "ab"]


def job(values: dict[str, Any], tmp_path: Path) -> Job:
    """The job of a file with these values, with an output."""
    (tmp_path / "merge.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    read_values, labels = read(tmp_path / "merge.yaml")
    assert is_mergekit(read_values)
    translation = translate(read_values, labels)
    return make(Job, translation.values, translation.labels)


def test_ties(tmp_path: Path) -> None:
    found = job(TIES, tmp_path)
    assert (found.merge, found.base, found.models, found.dtype) == ("ties", "base", ("a", "b"), "float16")
    assert found.density == ((1.0, 0.7, 0.1), 1.0)
    assert found.weights == (1.0, {"mlp": 0.5, "*": (0.0, 1.0)})
    assert (found.task_scale, found.task_weights) == (1.0, "mean")


def test_negative_weights_are_those_of_summed_task_vectors(tmp_path: Path) -> None:
    models = [{"model": "a", "parameters": {"weight": -0.5}}, {"model": "b", "parameters": {"weight": 1}}]
    assert job(TIES | {"models": models, "parameters": {"normalize": False}}, tmp_path).weights == (-0.5, 1.0)
    with pytest.raises(ConfigError, match=r"yaml, line 3: models: weight: negative ones .*; write normalize: false"):
        job(TIES | {"models": models}, tmp_path)
    with pytest.raises(ConfigError, match=r"line 2: models: weight: negative ones .*; write task_arithmetic"):
        job({"merge_method": "linear", "models": models}, tmp_path)


def test_nuslerp_of_two_models_is_slerp(tmp_path: Path) -> None:
    models = [{"model": "a", "parameters": {"weight": [3, 1]}}, {"model": "b", "parameters": {"weight": 1}}]
    values = {"merge_method": "nuslerp", "models": models, "parameters": {"nuslerp_row_wise": False}}
    found = job(values, tmp_path)
    assert (found.merge, found.models, found.weights) == ("slerp", ("a", "b"), ((3.0, 1.0), 1.0))
    for more in ({"base_model": "c"}, {"parameters": {"nuslerp_flatten": False}}, {"models": models * 2}):
        with pytest.raises(ConfigError, match="nuslerp"):
            job(values | more, tmp_path)


def test_the_seed_and_the_dtype_of_torch(tmp_path: Path) -> None:
    found = job(TIES | {"random_seed": 7, "dtype": "torch.bfloat16"}, tmp_path)
    assert (found.seed, found.dtype) == (7, "bfloat16")


@pytest.mark.parametrize(
    ("method", "ours", "weights"),
    [
        ("task_arithmetic", "task-arithmetic", "sum"),
        ("dare_linear", "dare-linear", "sum"),
        ("dare_ties", "dare-ties", "sum"),
    ],
)
def test_weights_are_added_or_averaged_as_mergekit_does(method: str, ours: str, weights: str, tmp_path: Path) -> None:
    models = [{"model": name, "parameters": {"weight": 0.4}} for name in "ab"]
    values = {"merge_method": method, "base_model": "base", "models": models, "parameters": {"lambda": 0.7}}
    found = job(values, tmp_path)
    assert (found.merge, found.task_weights, found.task_scale, found.weights) == (ours, weights, 0.7, (0.4, 0.4))
    values["parameters"] = {"normalize": True}
    assert job(values, tmp_path).task_weights == "mean"


def test_one_model_has_a_task_vector(tmp_path: Path) -> None:
    models = [{"model": "base"}, {"model": "a", "parameters": {"weight": 0.4}}]
    found = job({"merge_method": "task_arithmetic", "base_model": "base", "models": models}, tmp_path)
    assert (found.models, found.base, found.weights) == (("a",), "base", (0.4,))


def test_slerp_starts_at_the_base(tmp_path: Path) -> None:
    t = [{"filter": "self_attn", "value": [0, 0.5, 1]}, {"value": 0.25}]
    sources = [{"model": "b", "layer_range": [0, 4]}, {"model": "a", "layer_range": [0, 4]}]
    values = {"merge_method": "slerp", "base_model": "a", "slices": [{"sources": sources}], "parameters": {"t": t}}
    found = job(values, tmp_path)
    assert (found.merge, found.models, found.base) == ("slerp", ("a", "b"), None)
    assert found.weights == ({"self_attn": (1.0, 0.5, 0.0), "*": 0.75}, {"self_attn": (0.0, 0.5, 1.0), "*": 0.25})
    assert translate(values, {}).layers == 4


def test_linear_keeps_the_tokenizer_of_its_base(tmp_path: Path) -> None:
    models = [{"model": "a", "parameters": {"weight": 3}}, {"model": "b", "parameters": {"weight": 1}}]
    values = {"merge_method": "linear", "models": models, "tokenizer_source": "union", "tokenizer": {"source": "base"}}
    found = job(values, tmp_path)
    assert (found.merge, found.models, found.normalized_weights(2)) == ("mean", ("a", "b"), [0.75, 0.25])
    based = job(values | {"base_model": "b"}, tmp_path)
    assert (based.models, based.weights, based.base) == (("b", "a"), (1.0, 3.0), None)


@pytest.mark.parametrize("key", ["tokenizer_source", "tokenizer"])
def test_the_model_of_the_tokenizer_comes_first(key: str, tmp_path: Path) -> None:
    named = {key: "b" if key == "tokenizer_source" else {"source": "b"}}
    models = [{"model": name, "parameters": {"weight": weight}} for name, weight in (("a", 3), ("b", 1))]
    linear = job({"merge_method": "linear", "base_model": "a", "models": models, **named}, tmp_path)
    assert (linear.models, linear.weights) == (("b", "a"), (1.0, 3.0))
    ties = job(TIES | named, tmp_path)
    assert (ties.models, ties.density) == (("b", "a"), (1.0, (1.0, 0.7, 0.1)))
    arc = {"merge_method": "slerp", "base_model": "a", "models": [{"model": "a"}, {"model": "b"}]}
    slerp = job(arc | {"parameters": {"t": [0, 0.25]}, **named}, tmp_path)
    assert (slerp.models, slerp.weights) == (("b", "a"), ((0.0, 0.25), (1.0, 0.75)))


def test_a_file_that_asks_for_the_tokenizer_of_the_base_of_task_vectors_is_read() -> None:
    for named in ("base", TIES["base_model"]):
        found = translate(TIES | {"tokenizer_source": named}, {"tokenizer_source": "line 1"})
        assert (found.values["models"], found.base_tokenizer) == (["a", "b"], "line 1")
    assert translate(TIES | {"tokenizer_source": "b"}, {}).base_tokenizer is None


def test_parameters_and_base_of_a_slice_come_first(tmp_path: Path) -> None:
    own = {"normalize": False, "lambda": 0.5}
    part = {"sources": SLICE, "base_model": "other", "parameters": own}
    found = job(TIES | {"models": None, "slices": [part], "parameters": {"normalize": True, "lambda": 2}}, tmp_path)
    assert (found.base, found.task_weights, found.task_scale) == ("other", "sum", 0.5)


def sliced(*weights: tuple[int, int, Any], models: str = "ab", **values: Any) -> dict[str, Any]:
    """A linear merge whose slices begin and end at these layers. The first model has these weights, and others 1."""
    slices = [
        {
            "sources": [
                {"model": name, "layer_range": [start, end], "parameters": {"weight": weight if name == "a" else 1}}
                for name in models
            ]
        }
        for start, end, weight in weights
    ]
    return {"merge_method": "linear", "slices": slices, **values}


def test_slices_that_follow_one_another_are_numbers_for_each_layer(tmp_path: Path) -> None:
    values = sliced((0, 3, 2), (3, 6, [0, 1]), (6, 7, [3, 5]))
    found = job(values, tmp_path)
    assert (found.models, found.weights) == (("a", "b"), ((2, 2, 2, 0, 0.5, 1, 5), 1.0))
    assert translate(values, {}).layers == 7


def test_filters_are_read_in_every_slice(tmp_path: Path) -> None:
    filtered = [{"filter": "mlp", "value": 3}, {"value": [0, 1]}]
    assert job(sliced((0, 2, filtered), (2, 4, 7)), tmp_path).weights == ({"mlp": (3, 3, 7, 7), "*": (0, 1, 7, 7)}, 1)
    with pytest.raises(ConfigError, match=r"line 2: slices, item 2: item 1: weight: .*write the same filters"):
        job(sliced((0, 2, filtered), (2, 4, [{"filter": "attn", "value": 3}, {"value": 1}])), tmp_path)


def test_gradients_of_the_file_run_over_every_slice(tmp_path: Path) -> None:
    sources = [[{"model": name, "layer_range": [start, start + 2]} for name in "ab"] for start in (0, 2)]
    slices = [{"sources": sources[0], "base_model": "a"}, {"sources": sources[1], "parameters": {"t": 1}}]
    values = {"merge_method": "slerp", "base_model": "a", "slices": slices, "parameters": {"t": [0, 0.5]}}
    assert job(values, tmp_path).weights == ((1, 0.5, 0, 0), (0, 0.5, 1, 1))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (sliced((0, 2, 1), (3, 4, 1)), r"item 2: layer_range should begin at 2, where .*mergekit alone"),
        (sliced((0, 2, 1), (1, 4, 1)), r"item 2: layer_range should begin at 2, where .*mergekit alone"),
        (sliced((0, 2, 1), (2, 2, 1)), r"item 2: layer_range should be \[START, END\]"),
        (
            {
                "merge_method": "linear",
                "slices": sliced((0, 2, 1))["slices"] + sliced((2, 4, 1), models="ac")["slices"],
            },
            r"item 2: its models should be those of the first slice, a and b",
        ),
    ],
)
def test_other_slices_are_refused(values: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        job(values, tmp_path)


def test_what_all_layers_share_is_alike_in_every_slice(tmp_path: Path) -> None:
    values = sliced((0, 2, 1), (2, 4, 1)) | {"merge_method": "ties", "base_model": "base"}
    values["slices"][0]["parameters"] = {"lambda": 0.5}
    with pytest.raises(ConfigError, match=r"slices, item 2: lambda should be 0\.5, as in the first slice"):
        job(values, tmp_path)
    values["slices"][1]["parameters"] = {"lambda": 0.5}
    assert job(values, tmp_path).task_scale == 0.5
    values["slices"][1]["base_model"] = "other"
    with pytest.raises(ConfigError, match="slices, item 2: base_model should be base, as in the first slice"):
        job(values, tmp_path)


def test_gradients_of_one_number_and_null_and_zero_are_read(tmp_path: Path) -> None:
    models = [{"model": name, "parameters": {"weight": [0.5], "density": [0.5]}} for name in "ab"]
    values = TIES | {"models": models, "tokenizer": None, "slices": None, "parameters": {"lambda": 0}}
    found = job(values, tmp_path)
    assert (found.weights, found.density, found.task_scale) == ((0.5, 0.5), (0.5, 0.5), 0.0)


@pytest.mark.parametrize("method", ["linear", "slerp", "task_arithmetic"])
def test_parameters_without_effect_in_mergekit_have_none_here(method: str, tmp_path: Path) -> None:
    plain = {"linear": {"weight": 0.4}, "slerp": {"t": 0.4}, "task_arithmetic": {"weight": 0.4}}[method]
    more = {"density": 0.5} if method == "task_arithmetic" else {}
    found = []
    for own, of_the_file in ((plain, {}), (plain | more, {"int8_mask": True})):
        models = [{"model": name, "parameters": own} for name in "ab"]
        base = {} if method == "linear" else {"base_model": "a" if method == "slerp" else "base"}
        found.append(job({"merge_method": method, "models": models, **base, "parameters": of_the_file}, tmp_path))
    assert found[0] == found[1]


@pytest.mark.parametrize("value", [0, 1, 0.0, 1.0])
def test_zero_and_one_are_false_and_true(value: float, tmp_path: Path) -> None:
    values = TIES | {"parameters": {"normalize": value}}
    assert job(values, tmp_path) == job(TIES | {"parameters": {"normalize": bool(value)}}, tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"merge_method": "passthrough"}, ["line 1: merge_method", "passthrough has no counterpart", "stacks layers"]),
        ({"merge_method": "zzz"}, ["zzz has no counterpart", "write one of linear, slerp"]),
        ({"merge_method": "della"}, ["della has no counterpart", "the nearest is dare_ties"]),
        (
            {"merge_method": "model_stock"},
            ["model_stock has no counterpart", "write linear, or run `transfuse fuse A B"],
        ),
        ({"merge_method": None}, ["line 1: merge_method", "missing; write one of linear"]),
        ({"normalize": True}, ["line 24: normalize", "parameters; move it there"]),
        ({"gate_mode": "hidden"}, ["gate_mode", "mergekit-moe"]),
        ({"random_seed": -1}, ["line 24: random_seed", "greater than or equal to 0"]),
        ({"modules": {}}, ["modules", "write models"]),
        ({"name": "merged"}, ["name", "leave it out"]),
        ({"chat_template": "auto"}, ["chat_template", "leave it out; the template is that of a"]),
        ({"tokenizer": {"source": "another"}}, ["tokenizer", "base or union"]),
        ({"tokenizer": {"source": "base", "tokens": {}}}, ["tokenizer: tokens has no counterpart", "leave it out"]),
        ({"parameters": {"lambda": -1}}, ["parameters.lambda", "write negative weights instead"]),
        ({"tokenizer_source": "another"}, ["tokenizer_source", "base or union"]),
        ({"merge_methods": "x"}, ["merge_methods", "no such key", "known: "]),
        ({"base_model": None}, ["merge_method", "needs base_model"]),
        ({"base_model": "a+lora"}, ["base_model", "folder of the adapter"]),
        ({"models": ["a", "b"]}, ["models: item 1", "{model: NAME"]),
        ({"models": [{"model": "a"}, {"model": "b"}]}, ["models: item 1", "weight is missing"]),
        ({"models": [{"model": {"path": "a"}}]}, ["models: item 1", "nothing else"]),
        ({"models": [{"model": "a", "parameters": {"gamma": 1}}]}, ["item 1: gamma has no counterpart", "density"]),
        (
            {"models": [{"model": {"model": {"path": "a"}, "lora": {"path": "b"}}}]},
            ["models: item 1", "folder of the adapter"],
        ),
        ({"models": [{"model": "a", "parameters": {"t": 1}}]}, ["item 1: t has no effect with ties; leave it out"]),
        ({"parameters": {"t": 1}}, ["parameters.t has no effect with ties; leave it out"]),
        (
            {"models": [{"model": "a", "parameters": {"weight": 1, "density": 0}}]},
            ["line 3: models: density: ", "0.0 is not above 0 and at most 1"],
        ),
        ({"out_dtype": "float8"}, ["out_dtype: 'float8' is not one of"]),
        ({"parameters": {"rescale": True}}, ["parameters.rescale", "never rescaled"]),
        ({"parameters": {"normalize": 2}}, ["parameters.normalize", "true or false"]),
        ({"parameters": {"lambda": [1, 2]}}, ["parameters.lambda", "one number"]),
        ({"dtype": "float8"}, ["dtype", "'float8' is not one of"]),
        ({"models": None, "slices": [{}, {}]}, ["slices, item 1: should be a list of entries such as {model: NAME"]),
        ({"slices": [{"sources": SLICE}]}, ["slices", "models are given too"]),
        ({"models": None, "slices": [{"sources": SLICE, "paramters": {}}]}, ["slices", "paramters", "known: sources"]),
        (
            {"models": None, "slices": [{"sources": SLICE, "parameters": {"normalize": 0.5}}]},
            ["slices: normalize", "true or false"],
        ),
        ({"models": [{"model": "a", "layer_range": [0, 4]}]}, ["models: item 1", "{model: NAME"]),
        ({"models": [{"model": "a", "parameters": {"normalize": True}}]}, ["item 1: normalize", "move it"]),
        (
            {"models": [{"model": "a", "parameters": {"weight": {"filter": "mlp", "value": 1}}}]},
            ["models: item 1: weight is given only for names with mlp; add an entry without a filter: {value: NUMBER}"],
        ),
        (
            {"models": [{"model": "a", "parameters": {"weight": [{"filtr": "mlp", "value": 1}]}}]},
            ["models: item 1: weight", "should be an entry such as {filter: mlp, value: 0.5}"],
        ),
        (
            {"models": None, "slices": [{"sources": [{"model": "a", "layer_range": [4, 8]}]}]},
            ["slices: layer_range should begin at 0"],
        ),
    ],
    ids=str,
)
def test_what_has_no_counterpart_is_named(changes: dict[str, Any], words: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        job(TIES | changes, tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == [], message
    assert "merge.yaml, line" in message


def test_a_file_of_transfuse_is_none_of_mergekit() -> None:
    assert not is_mergekit({"models": ["a", "b"], "merge": "ties", "base": "c"})


def test_several_documents_are_named(tmp_path: Path) -> None:
    (tmp_path / "merge.yaml").write_text("merge_method: ties\n---\nmerge_method: linear\n")
    with pytest.raises(ConfigError, match=r"merge.yaml, line 2: a second YAML document begins; keep one in this file"):
        read(tmp_path / "merge.yaml")
