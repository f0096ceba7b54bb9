"""What Python programs pass: samples in memory, progress, torch dtypes and devices, and what they see of a fusion."""

import warnings
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
from comparisons import same_models
from datasets import Dataset, DatasetDict, IterableDataset
from languages import TEXTS
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer

import transfuse
from transfuse.base.batch import validation_split
from transfuse.base.progress import Silent, Terminal, as_progress, silent
from transfuse.config.finetune_options import FinetuneOptions
from transfuse.config.make import make
from transfuse.config.options import Options
from transfuse.config.settings import memory_bytes
from transfuse.data.files.sources import open_source
from transfuse.errors import ConfigError, DataError

FITTED = {"merge": "least-squares"}


def test_the_kind_of_samples_does_not_change_the_fusion(paths: list[Path]) -> None:
    expected = transfuse.fuse(paths, Dataset.from_dict({"text": TEXTS}), **FITTED)
    rows = [{"text": text} for text in TEXTS]
    stream = Dataset.from_list(rows).to_iterable_dataset()
    for data in (TEXTS, rows, pandas.DataFrame(rows), stream, DataLoader(rows, batch_size=4)):  # type: ignore[arg-type]
        fusion = transfuse.fuse(paths, data, **FITTED)
        assert same_models(fusion, expected)
        assert fusion.record["data"] == "dataset in memory"
        assert fusion.record["calibration_samples"] == len(TEXTS)


def test_samples_that_are_sorted_by_class_are_fitted_to_and_validated_on_all_classes(paths: list[Path]) -> None:
    """Each fifth batch validates."""
    batches = transfuse.match(paths, ["a b"] * 20 + ["c d"] * 20, batch_size=4, **FITTED).context.batches
    for part in validation_split(batches):
        assert len(torch.cat([batch["input_ids"] for batch in part]).unique(dim=0)) == 2


def test_a_stream_is_read_once(paths: list[Path]) -> None:
    starts: list[int] = []

    def rows() -> Any:
        starts.append(1)
        yield from ({"text": text} for text in TEXTS)

    transfuse.fuse(paths, IterableDataset.from_generator(rows), **FITTED)
    assert len(starts) == 1


def test_samples_in_memory_train_and_measure(paths: list[Path]) -> None:
    tuned = transfuse.finetune(paths[0], TEXTS, epochs=0.1, batch_size=8, device=torch.device("cpu"))
    tokenizer = AutoTokenizer.from_pretrained(paths[0])
    for model in (tuned.model, paths[0]):
        measured = transfuse.evaluate(model, TEXTS, processor=tokenizer)
        assert next(iter(measured.models.values())).metrics.samples > 0


def test_one_model_is_measured_in_one_call(paths: list[Path]) -> None:
    by_path = transfuse.evaluate(paths[0], TEXTS, device=torch.device("cpu"))
    model = AutoModelForCausalLM.from_pretrained(paths[0])
    loaded = transfuse.evaluate(model, TEXTS, processor=AutoTokenizer.from_pretrained(paths[0]))
    assert by_path.models[str(paths[0])].metrics == loaded.models["model 1"].metrics
    assert (
        transfuse.evaluate(model, TEXTS, processor=paths[0]).models["model 1"].metrics
        == by_path.models[str(paths[0])].metrics
    )
    with pytest.raises(
        ConfigError, match=r"a loaded model has no tokenizer; pass processor=\.\.\., or the model's path"
    ):
        transfuse.evaluate(model, TEXTS)


def test_a_fusion_is_measured_beside_its_parents(paths: list[Path]) -> None:
    fusion = transfuse.fuse(paths, TEXTS, **FITTED)
    for given in ([fusion, *paths], [fusion.model, *paths], fusion, [fusion]):
        measured = transfuse.evaluate(given, TEXTS)
        assert measured.models["model 1"].metrics.samples > 0
    tuned = transfuse.finetune(paths[0], TEXTS, epochs=0.1, batch_size=8)
    assert transfuse.evaluate(tuned, TEXTS).models["model 1"].metrics.samples > 0
    other = fusion.model
    other.config.vocab_size += 1  # no parent reads its tokens
    with pytest.raises(ConfigError, match="a loaded model has no tokenizer"):
        transfuse.evaluate([other, paths[0]], TEXTS)


def test_repr_tells_what_was_done(paths: list[Path]) -> None:
    model = AutoModelForCausalLM.from_pretrained(paths[1])
    fusion = transfuse.fuse([paths[0], model], TEXTS, weights=[3, 1], **FITTED)
    assert repr(fusion).splitlines() == [
        f"Fusion of 2 GPT2LMHeadModel: {paths[0]} [0.75], model 2 (in memory) [0.25]",
        f"  aligned: exact, matched on weights, in the basis of {paths[0]}",
        "  merged:  least-squares",
        f"  samples: {len(TEXTS)} of dataset in memory",
        "  next:    .save(path) writes the checkpoint; .model is the fused model",
    ]


def test_repr_tells_that_the_result_is_a_parent(paths: list[Path]) -> None:
    fusion = transfuse.fuse(paths, TEXTS, **FITTED)
    fusion.record["learned_weights"] = {"start": "model 1", "steps": 0, "best": 0, "excess": [0.25]}
    assert "  result:  no training, because the best start on held-out samples is model 1, 0.250 nats" in repr(fusion)


def test_a_repr_is_one_line(paths: list[Path]) -> None:
    matched = transfuse.match(paths)
    maps = matched.maps()
    tuned = transfuse.finetune(paths[0], TEXTS, epochs=0.1, batch_size=8)
    shown = [repr(each) for each in (matched, matched.alignments[0], maps, tuned)]
    assert [line.split()[0] for line in shown] == ["Matched", "Alignment", "ModelMaps", "Finetuned"]
    assert all("\n" not in line and len(line) < 300 for line in shown), shown
    with pytest.raises(ConfigError, match=r"stream: the values are not a tensor; give torch\.as_tensor\(values\)"):
        maps.states(torch.zeros(3).numpy())


def test_models_that_are_no_list_are_named_before_the_data(paths: list[Path]) -> None:
    with pytest.raises(ConfigError, match="models: give a list of checkpoint paths"):
        transfuse.fuse(str(paths[0]), str(paths[1]))


def test_models_are_fused_where_inference_is_all_that_is_asked(paths: list[Path]) -> None:
    with torch.inference_mode():
        fusion = transfuse.fuse(paths, TEXTS, merge="learned", steps=1)
    assert not next(iter(fusion.model.parameters())).is_inference()


def test_a_test_split_is_not_fused_without_a_word(paths: list[Path]) -> None:
    splits = DatasetDict({name: Dataset.from_dict({"text": TEXTS}) for name in ("train", "test")})
    with pytest.warns(UserWarning, match=r"split test\): a test split cannot measure .*split='train'"):
        transfuse.fuse(paths, transfuse.load_samples(splits), **FITTED)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        transfuse.fuse(paths, transfuse.load_samples(splits, "train"), **FITTED)
        transfuse.fuse(paths, splits, **FITTED)


def test_repr_of_many_models_without_samples(paths: list[Path]) -> None:
    lines = repr(transfuse.fuse(paths * 4, align="none")).splitlines()
    assert lines[0].endswith(f"{paths[1]} [0.125], 4 more")
    assert lines[1:4] == [f"  aligned: none, in the basis of {paths[0]}", "  merged:  mean", "  samples: none"]


def test_torch_dtypes_and_devices(paths: list[Path]) -> None:
    fusion = transfuse.fuse(paths, dtype=torch.bfloat16, device=torch.device("cpu"))
    assert fusion.model.dtype == torch.bfloat16
    assert (fusion.options.dtype, fusion.options.device) == ("bfloat16", "cpu")
    assert make(Options, {"device": torch.device("cuda", 1)}).device == "cuda:1"
    assert make(FinetuneOptions, {"precision": torch.bfloat16}).precision == "bfloat16"
    with pytest.raises(ConfigError, match="dtype: 'int8' is not one of"):
        make(Options, {"dtype": torch.int8})
    with pytest.raises(ConfigError, match="dtype: 'cpu' is not one of"):
        make(Options, {"dtype": torch.device("cpu")})


def test_memory_is_a_number_or_text(paths: list[Path]) -> None:
    assert memory_bytes(2_000_000) == memory_bytes("2MB")
    assert same_models(transfuse.fuse(paths, max_memory=10**11), transfuse.fuse(paths, max_memory="100GB"))
    for limit in (1000, "1KB", "much", -1):
        with pytest.raises(ConfigError, match=r"max.memory"):
            transfuse.fuse(paths, max_memory=limit)


@pytest.mark.parametrize("progress", [True, False, silent, Terminal()])
def test_progress_is_a_switch_or_an_object(progress: Any, paths: list[Path]) -> None:
    assert list(as_progress(progress).track([1, 2], "numbers")) == [1, 2]
    assert transfuse.merge(transfuse.match(paths, progress=progress, align="none"), progress=progress).model
    assert isinstance(as_progress(True), Terminal)
    assert as_progress(False) is silent


def test_true_shows_progress(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(Terminal, "track", lambda self, items, description: shown.append(description) or items)
    transfuse.fuse(paths, progress=True)
    assert shown
    shown.clear()
    transfuse.finetune(paths[0], TEXTS, epochs=0.1, progress=True)
    assert shown == ["fine-tuning"]


@pytest.mark.parametrize("progress", ["yes", None, Silent])
def test_other_progress_is_refused(progress: Any, paths: list[Path]) -> None:
    for call in (transfuse.fuse, transfuse.match):
        with pytest.raises(ConfigError, match=r"progress: .* cannot show progress; give True, False"):
            call(paths, progress=progress)
    with pytest.raises(ConfigError, match="progress: "):
        transfuse.finetune(paths[0], TEXTS, progress=progress)


@pytest.mark.parametrize(
    ("models", "data", "kind", "message"),
    [
        (None, None, ConfigError, "models: give a list of checkpoint paths or loaded transformers models"),
        ("A", None, ConfigError, "models: give a list of checkpoint paths or loaded transformers models"),
        ([torch.nn.Linear(1, 1)] * 2, None, ConfigError, "models: give a list of checkpoint paths"),
        (..., 3, DataError, "data: an int cannot be read; give a path, a list of texts"),
        (..., [], DataError, "empty"),
        (..., [1.5], DataError, "item 0 is a float; give a list of texts"),
    ],
)
def test_wrong_types_are_one_line(
    models: Any, data: Any, kind: type[Exception], message: str, paths: list[Path]
) -> None:
    with pytest.raises(kind, match=message) as caught:
        transfuse.fuse(paths if models is ... else models, data)
    assert "\n" not in str(caught.value)


def test_wrong_arguments_of_other_calls_are_one_line(paths: list[Path], tmp_path: Path) -> None:
    fusion = transfuse.fuse(paths)
    (tmp_path / "tx.txt").write_text("a text")
    calls = {
        "matched: a list is not a result of match; give what match returns": lambda: transfuse.merge(paths),
        "model: 'path' is not a loaded model; give AutoModel": lambda: transfuse.check_declaration("path"),
        "split: 5 is not the name of a split; give a name": lambda: transfuse.load_samples(TEXTS, split=5),
        "path: None is not a path; give that of a folder": lambda: fusion.save(None),
        "path: 3 is not a path; give that of a folder": lambda: fusion.save_adapter(3, 1),
        "cache: 5 is not a path": lambda: transfuse.fuse(paths, cache=5),
        f"cache: {tmp_path}/tx.txt is a file; give a folder": lambda: transfuse.fuse(paths, cache=tmp_path / "tx.txt"),
        f"cache: {tmp_path}/tx.txt is a file; give a folder$": lambda: transfuse.shrink(
            paths[0], TEXTS, cache=tmp_path / "tx.txt" / "inner", ratio=0.5
        ),
    }
    for message, call in calls.items():
        with pytest.raises(ConfigError, match=f"^{message}") as caught:
            call()
        assert "\n" not in str(caught.value)


def test_samples_given_as_a_path_are_read_once(paths: list[Path], tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "train.txt").write_text("\n".join(TEXTS))
    opened: list[str] = []

    def counted(source: Any, *arguments: Any) -> Any:
        opened.append(str(source))
        return open_source(source, *arguments)

    monkeypatch.setattr("transfuse.data.load.open_source", counted)
    fusion = transfuse.fuse(paths, tmp_path, **FITTED)
    assert opened == [str(tmp_path)]
    assert fusion.record["data"] == str(tmp_path)
    transfuse.fuse(paths, tmp_path, merge="mean", match_on="weights")
    assert opened == [str(tmp_path)], "nothing reads the samples"


def test_a_frozen_model_is_fused_as_any_other(paths: list[Path]) -> None:
    models = [AutoModelForCausalLM.from_pretrained(path) for path in paths]
    taught = {"processor": AutoTokenizer.from_pretrained(paths[0]), "merge": "learned", "steps": 2}
    expected = transfuse.fuse(models, TEXTS, **taught)
    models[0].requires_grad_(False)
    assert same_models(transfuse.fuse(models, TEXTS, **taught), expected)
    assert not any(parameter.requires_grad for parameter in models[0].parameters())
