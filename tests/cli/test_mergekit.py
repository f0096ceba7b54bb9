"""Files of mergekit on the command line: planned, fused, and what has no effect is said."""

import json
from pathlib import Path

import torch
from cli_inputs import Run, World, one_line
from safetensors.torch import load_file
from transformers import MambaConfig, MambaForCausalLM

from transfuse.network.block_numbers import block_number

SLERP = """
merge_method: slerp
base_model: {a}
models: [{{model: {a}}}, {{model: {b}}}]
parameters:
  t: {t}
"""


def slerp(world: World, t: str = "0.5") -> Path:
    return world.file("slerp.yaml", SLERP.format(a=world.a, b=world.b, t=t))


def test_a_filter_that_selects_nothing_is_left_out_and_said(world: World, run: Run) -> None:
    t = "[{filter: lm_head, value: 0.75}, {filter: attention, value: [0, 1]}, {value: 0.5}]"
    ran = run("fuse", "--config", slerp(world, t), world.here / "out")
    assert ran.status == 0, ran
    assert ran.err.count("filter lm_head has no effect") == 1
    record = json.loads((world.here / "out" / "transfuse.json").read_text())
    assert record["options"]["weights"] == [{"attention": [1, 0], "*": 0.5}, {"attention": [0, 1], "*": 0.5}]


def test_filters_that_all_select_nothing_are_said_by_plan_too(world: World, run: Run) -> None:
    file = slerp(world, "[{filter: lm_head, value: 0.75}, {value: 0.5}]")
    for command in (("plan", "--config", file), ("fuse", "--config", file, world.here / "out")):
        ran = run(*command)
        assert ran.status == 0, ran
        assert ran.err.count("slerp.yaml, line 6: parameters.t: filter lm_head has no effect") == 1
    record = json.loads((world.here / "out" / "transfuse.json").read_text())
    assert record["options"]["weights"] == [{"*": 0.5}, {"*": 0.5}]


def test_plan_takes_files(world: World, run: Run) -> None:
    ran = run("plan", "--config", slerp(world), "--json")
    assert ran.status == 0, ran
    own = world.file("own.yaml", f"models: ['{world.a}', '{world.b}']\noutput: out\nalign: none\n")
    assert json.loads(run("plan", "--config", own, "--json").out)["spaces"] == []
    one_line(run("plan"), ["MODELS: 0 given"])


def test_a_file_in_place_of_a_model_is_answered_by_the_flag(world: World, run: Run) -> None:
    for command in (("fuse", slerp(world), world.here / "out"), ("plan", slerp(world), world.b)):
        one_line(run(*command), ["slerp.yaml: is no model", "give it as --config"])


def test_whose_tokenizer_the_result_has_instead_of_that_of_the_base_is_said(world: World, run: Run) -> None:
    text = f"merge_method: ties\nbase_model: {world.a}\ntokenizer_source: base\nparameters: {{weight: 1}}\n"
    file = world.file("ties.yaml", f"{text}models: [{{model: {world.b}}}]\n")
    ran = run("fuse", "--config", file, world.here / "out")
    assert f"ties.yaml, line 3: tokenizer_source: the tokenizer of the result is that of {world.b}" in ran.err


def test_slices_give_layers_their_own_weights(world: World, run: Run) -> None:
    layers = json.loads((world.a / "config.json").read_text())["num_hidden_layers"]
    slices = [
        f"{{sources: [{{model: {world.a}, layer_range: {part}}}, {{model: {world.b}, layer_range: {part}}}],"
        f" parameters: {{t: {t}}}}}"
        for part, t in (([0, layers - 1], 0), ([layers - 1, layers], 1))
    ]
    file = f"merge_method: slerp\nbase_model: {world.a}\nslices: [{', '.join(slices)}]\n"
    ran = run("fuse", "--config", world.file("slices.yaml", file), "--align", "none", world.here / "out")
    assert ran.status == 0, ran
    fused, a, b = (load_file(folder / "model.safetensors") for folder in (world.here / "out", world.a, world.b))
    for name, tensor in fused.items():
        number = block_number(name)
        source = b if number == layers - 1 or (number is None and "embeddings" not in name) else a
        torch.testing.assert_close(tensor, source[name], rtol=0, atol=1e-6)


def test_a_class_without_a_declaration_takes_filters(tmp_path: Path, run: Run) -> None:
    config = MambaConfig(hidden_size=16, num_hidden_layers=2, vocab_size=31, state_size=4)
    for seed, name in enumerate(("base", "a", "b")):
        torch.manual_seed(0)
        model = MambaForCausalLM(config)
        for parameter in model.parameters():
            parameter.data += 0.002 * seed * torch.randn_like(parameter)
        model.save_pretrained(tmp_path / name)
    weight = "{{parameters: {{weight: [{{filter: mixer, value: {}}}, {{value: 1}}]}}, model: {}}}"
    models = ", ".join(weight.format(value, tmp_path / name) for name, value in (("a", "[1, 0]"), ("b", "[0, 1]")))
    file = tmp_path / "file.yaml"
    file.write_text(f"merge_method: task_arithmetic\nbase_model: {tmp_path / 'base'}\nmodels: [{models}]\n")
    assert run("fuse", "--config", file, tmp_path / "out").status == 0
    base, a, b, fused = (load_file(tmp_path / name / "model.safetensors") for name in ("base", "a", "b", "out"))
    for name, values in fused.items():
        parent = (a, b)[block_number(name) or 0]
        torch.testing.assert_close(values, parent[name] if ".mixer." in name else a[name] + b[name] - base[name])
