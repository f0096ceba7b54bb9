"""Models without a head: cosines in one basis, and similarities of samples in any."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from kept_warnings import KeptWarnings
from kinds import SENTENCES, SIZES, bert, text, tokenizer
from transformers import BertConfig, BertModel

import transfuse
from transfuse.config.options import Options
from transfuse.data.load import load_samples
from transfuse.data.measured_tasks import measured_task
from transfuse.data.prepare import prepare
from transfuse.data.text.pooling import POOLED, single_token, with_pooled_token
from transfuse.data.text.saved_tokenizer import load_tokenizer
from transfuse.errors import DataError
from transfuse.evaluation.kinds import outputs
from transfuse.evaluation.kinds.outputs import agreement, answers, predict_similarity
from transfuse.evaluation.references import parents_in_one_basis
from transfuse.fusion.match import match

TEXTS = [text(*sentence) + " in" * (row % 4) for row, sentence in enumerate(SENTENCES[:12])]
POOLING: dict[str | None, Callable[[torch.Tensor], torch.Tensor]] = {
    None: lambda states: states.mean(0),
    "pooling_mode_mean_tokens": lambda states: states.mean(0),
    "pooling_mode_max_tokens": lambda states: states.mean(0),  # no mode of a single token
    "pooling_mode_cls_token": lambda states: states[0],
    "pooling_mode_lasttoken": lambda states: states[-1],
}  # by settings of sentence-transformers; None: no files of it


def pools(folder: Path, mode: str) -> Path:
    """Add the files of sentence-transformers."""
    modules = {"": "Transformer", "1_Pooling": "Pooling"}
    entries = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in modules.items()]
    (folder / "modules.json").write_text(json.dumps(entries))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": False, mode: True}))
    return folder


@torch.no_grad()
def embeddings(folder: Path, pool: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    model = BertModel.from_pretrained(folder)
    return torch.stack([pool(model(**tokenizer()(each, return_tensors="pt"))[0][0]) for each in TEXTS]).double()


def test_padding_is_left_out() -> None:
    torch.manual_seed(0)
    words = tokenizer()
    bare = BertModel(BertConfig(**SIZES)).eval()
    both = words(["anna sees boats in paris", "anna"], return_tensors="pt", padding=True)
    alone = words(["anna"], return_tensors="pt")
    torch.testing.assert_close(answers(bare, both)[1], answers(bare, alone)[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mode", POOLING)
def test_similarity_by_hand(tmp_path: Path, mode: str | None) -> None:
    folders = [bert(tmp_path / str(seed), BertModel, seed) for seed in (1, 2)]
    for folder in folders if mode else ():
        pools(folder, mode)
    entry = transfuse.evaluate(folders, Dataset.from_dict({"text": TEXTS})).records()[0]["agreement_with"][0]
    profiles = []
    for folder in folders:
        units = torch.nn.functional.normalize(embeddings(folder, POOLING[mode]), dim=1)
        profiles.append(units @ units.T)
    expected = []
    for row in range(len(TEXTS)):
        others = [index for index in range(len(TEXTS)) if index != row]
        expected.append(torch.corrcoef(torch.stack([profile[row, others] for profile in profiles]))[0, 1])
    assert entry["similarity"] == pytest.approx(float(torch.stack(expected).mean()), abs=1e-5)
    low, high = entry["intervals"]["similarity"]
    assert low < entry["similarity"] < high


@pytest.mark.parametrize("names", [("sentence1", "sentence2"), ("anchor", "positive")])
def test_both_texts_of_a_pair_have_an_embedding_of_their_own(tmp_path: Path, names: tuple[str, str]) -> None:
    """As sentence-transformers reads them; a text in several pairs counts once."""
    folders = [bert(tmp_path / str(seed), BertModel, seed) for seed in (1, 2)]
    pairs = {names[0]: [TEXTS[0], TEXTS[0], TEXTS[3]], names[1]: [TEXTS[1], TEXTS[2], " "], "score": [0.5, 1.0, 0.0]}
    found, expected = (transfuse.evaluate(folders, Dataset.from_dict(data)) for data in (pairs, {"text": TEXTS[:4]}))
    assert found.records()[0]["agreement_with"] == expected.records()[0]["agreement_with"]
    model = BertModel.from_pretrained(folders[0])
    batch = next(iter(prepare(load_samples(Dataset.from_dict(pairs)), model, folders[0], Options())))
    assert len(batch["input_ids"]) == 4
    with pytest.raises(DataError, match="are empty"):
        transfuse.evaluate(folders, Dataset.from_dict({name: [" ", ""] for name in names}))


@pytest.mark.parametrize("with_files", ["first", "second"])
def test_a_model_without_files_pools_as_the_other(tmp_path: Path, with_files: str) -> None:
    for name in ("first", "second"):
        bert(tmp_path / name, BertModel, 1)
    pools(tmp_path / with_files, "pooling_mode_cls_token")
    heard = KeptWarnings()
    found = transfuse.evaluate(
        [tmp_path / "first", tmp_path / "second"], Dataset.from_dict({"text": TEXTS}), progress=heard
    )
    assert found.records()[0]["agreement_with"][0]["similarity"] == pytest.approx(1)
    assert heard.lines == []


def test_modes_that_differ_are_told_about(tmp_path: Path) -> None:
    modes = {"first": "pooling_mode_cls_token", "second": "pooling_mode_mean_tokens"}
    models = [pools(bert(tmp_path / name, BertModel, 1), mode) for name, mode in modes.items()]
    heard = KeptWarnings()
    transfuse.evaluate(models, Dataset.from_dict({"text": TEXTS}), progress=heard)
    assert [line.replace(f"{tmp_path}/", "") for line in heard.lines] == [
        "second: its modules.json pools tokens by mean, that of first by cls"
    ]


def test_fusing_and_shrinking_pool_alike(tmp_path: Path) -> None:
    folder = pools(bert(tmp_path, BertModel, 1), "pooling_mode_cls_token")
    model = BertModel.from_pretrained(folder).eval()
    found = [answers(model, batch) for batch in prepare(load_samples(TEXTS), model, folder, Options(batch_size=5))]
    torch.testing.assert_close(torch.cat(found), embeddings(folder, lambda states: states[0]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("longest", "tokens"), [(3, 3), (40, 24), (None, 24)])
def test_texts_are_cut_as_sentence_transformers_does(tmp_path: Path, longest: int | None, tokens: int) -> None:
    """As in all-MiniLM-L6-v2, whose tokenizer would read twice as many tokens."""
    folder = pools(bert(tmp_path, BertModel, 1), "pooling_mode_mean_tokens")
    settings = folder / "sentence_bert_config.json"
    settings.write_text(json.dumps({"max_seq_length": longest, "do_lower_case": False}))
    assert load_tokenizer(folder).model_max_length == tokens
    (folder / "modules.json").unlink()
    assert load_tokenizer(folder).model_max_length == 24


def test_modules_that_cannot_be_copied_do_not_hide_the_pooling(tmp_path: Path) -> None:
    """As in LaBSE, whose last module has weights."""
    folder = pools(tmp_path, "pooling_mode_cls_token")
    entries = json.loads((folder / "modules.json").read_text())
    for kind in ("sentence_transformers.models.Dense", "own_code.Layer"):
        modules = [*entries, {"path": "2_Dense", "type": kind}]
        (folder / "modules.json").write_text(json.dumps(modules))
        batch = with_pooled_token(lambda texts: {"attention_mask": torch.ones(len(texts), 3)}, folder)(["a"])
        assert batch[POOLED].tolist() == [[True, False, False]]


@pytest.mark.parametrize(("mode", "tokens"), [("cls", [[0, 1, 0], [1, 0, 0]]), ("lasttoken", [[0, 0, 1], [0, 1, 0]])])
def test_padding_on_either_side_is_not_pooled(mode: str, tokens: list[list[int]]) -> None:
    mask = torch.tensor([[0, 1, 1], [1, 1, 0]])
    assert single_token(mask, mode).long().tolist() == tokens


def test_similarity_does_not_depend_on_the_basis() -> None:
    """Unlike the cosine, which is 1 for a model and itself only in its own basis."""

    class Rows(torch.nn.Module):
        def __init__(self, turn: torch.Tensor) -> None:
            super().__init__()
            self.turn, self.config, self.device = turn, BertConfig(vocab_size=9), torch.device("cpu")

        def forward(self, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"text_embeds": input_ids.double() @ self.turn}

    rows = torch.randint(1, 9, (8, 4), generator=torch.Generator().manual_seed(0))
    turn, _ = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    models = (Rows(torch.eye(4, dtype=torch.float64)), Rows(turn))
    found = predict_similarity(models, ([{"input_ids": rows}], [{"input_ids": rows[:5]}, {"input_ids": rows[5:]}]))
    assert found.metrics().scores["similarity"] == pytest.approx(1)
    cosines = agreement(rows.double(), rows.double() @ turn, {})["cosine"]
    assert float(cosines.abs().max()) < 0.999
    with pytest.raises(DataError, match="3 samples are too few; give 4 or more"):
        predict_similarity(models, ([{"input_ids": rows[:3]}], [{"input_ids": rows[:3]}]))


def test_parents_are_compared_in_the_basis_of_the_fusion(tmp_path: Path) -> None:
    """A model fused with itself agrees with itself whatever the basis of the copy was."""
    a, b = (bert(tmp_path / name, BertModel, 1) for name in "ab")
    matched = match([a, b], None)
    task = measured_task("BertModel", matched.anchor.config)
    first, second = parents_in_one_basis(task, matched.networks, matched.parents)
    batch = dict(tokenizer()(TEXTS, return_tensors="pt", padding=True))
    cosine = agreement(answers(first, batch), answers(second, batch), batch)["cosine"]
    assert cosine.tolist() == pytest.approx([1.0] * len(TEXTS), abs=1e-5)


def test_similarity_takes_memory_for_blocks_of_rows_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = (bert(tmp_path / str(seed), BertModel, seed) for seed in (1, 2))
    data = Dataset.from_dict({"text": TEXTS})
    at_once = transfuse.evaluate([a, b], data).records()[0]["agreement_with"][0]
    monkeypatch.setattr("transfuse.evaluation.row_blocks.MAX_ENTRIES", 5 * len(TEXTS))
    shapes, profiles = [], outputs._profiles
    monkeypatch.setattr(outputs, "_profiles", lambda *given: shapes.append(profiles(*given).shape) or profiles(*given))
    in_blocks = transfuse.evaluate([a, b], data).records()[0]["agreement_with"][0]
    assert shapes == [(rows, len(TEXTS)) for rows in (5, 5, 5, 5, 2, 2)]
    assert in_blocks["similarity"] == pytest.approx(at_once["similarity"], abs=1e-12)
    assert in_blocks["intervals"]["similarity"] == pytest.approx(at_once["intervals"]["similarity"], abs=1e-12)
