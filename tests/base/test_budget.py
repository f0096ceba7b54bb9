"""A batch is as large as memory allows, and what comes of it does not depend on that."""

import pytest
import torch
from cases import CASES, HEADS, Case
from torch import Tensor

from transfuse.base import budget
from transfuse.base.batch import IGNORED_LABEL, Batch, batch_size, group_by_length, split_batch
from transfuse.base.budget import fitting_parts, samples_at_once, tokens_at_once
from transfuse.base.distributed import ProcessGroup
from transfuse.base.in_parts import run_in_parts
from transfuse.evaluation.evaluate import predict_answers, predict_ensemble
from transfuse.finetuning.trainer import micro_batch_size
from transfuse.network.outputs import predict, predict_in_slices

LANGUAGE = [
    case for case in (*CASES, *HEADS)
    if case.name.split("-")[0].endswith(("ForCausalLM", "ForMaskedLM", "LMHeadModel", "ForConditionalGeneration"))
    and "num_mel_bins" not in case.sizes  # takes sound
]  # fmt: skip
SHORTAGES = [
    MemoryError(),
    RuntimeError("CUDA out of memory"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory"),
]
named = {case.name: case for case in CASES}


def texts(lengths: list[int], vocabulary: int = 30) -> dict[str, Tensor]:
    """Padded behind, every token but the last asked for."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, vocabulary, (len(lengths), max(lengths)), generator=generator)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)).long()
    labels = ids.roll(-1, 1).masked_fill(mask.roll(-1, 1) == 0, IGNORED_LABEL)
    labels[:, -1] = IGNORED_LABEL
    return {"input_ids": ids * mask, "attention_mask": mask, "labels": labels}


@pytest.mark.parametrize("case", LANGUAGE, ids=lambda case: case.name)
@pytest.mark.parametrize("rows", [1, 5, 1000])
def test_scores_in_slices_are_the_scores(case: Case, rows: int) -> None:
    model = case.build().float()
    batch = dict(case.inputs(model.config))
    labels = batch["input_ids"].clone()
    labels[:, -1] = labels[0, :3] = IGNORED_LABEL
    batch["labels"] = labels
    due = predict(model, batch)
    found = list(predict_in_slices(model, batch, rows * model.config.vocab_size))
    if model.base_model is not model:  # T5 has no trunk of its own
        assert len(found) == -(-len(due) // rows)
    torch.testing.assert_close(torch.cat(found), due, atol=2e-5, rtol=1e-5)
    assert "forward" not in vars(model.base_model)


def test_pieces_hold_texts_of_like_length() -> None:
    batch = texts([9, 3, 12, 4, 2])
    found = list(group_by_length(batch, 12))
    assert [place.tolist() for place, _ in found] == [[4, 1, 3], [0], [2]]
    for place, piece in found:
        width = piece["input_ids"].shape[1]
        assert width == max(int(batch["attention_mask"][each].sum()) for each in place)
        for name, values in piece.items():
            assert torch.equal(values, batch[name][place][:, :width])


def test_padding_in_front_stays() -> None:
    batch = texts([4, 6])
    batch = {name: values.flip(1) for name, values in batch.items()}
    assert [piece["input_ids"].shape for _, piece in group_by_length(batch, 100)] == [(2, 6)]


def test_labels_of_as_many_classes_as_tokens_are_not_cut() -> None:
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
    classes = torch.eye(4)[:2]
    (short, part), _ = group_by_length({"input_ids": mask, "attention_mask": mask, "labels": classes}, 4)
    assert part["input_ids"].shape == (1, 2)
    assert torch.equal(part["labels"], classes[short])


@pytest.mark.parametrize("room", [1, 2000, 2**30])
def test_what_is_measured_does_not_depend_on_the_room(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = named["LlamaForCausalLM"].build().float(), texts([9, 3, 12, 4, 2])
    due = predict_answers(model, [batch])
    monkeypatch.setattr(budget, "BATCH_BYTES", room)
    found = predict_answers(model, [batch])
    for name in ("correct", "counts", "loss"):
        torch.testing.assert_close(getattr(found, name), getattr(due, name), atol=1e-4, rtol=1e-5)
    assert found.metrics().samples == due.metrics().samples == 25
    both = predict_ensemble([model, model], [batch])
    torch.testing.assert_close(both.loss, due.loss, atol=1e-4, rtol=1e-5)


def test_a_classifier_keeps_the_order_of_its_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    case = next(each for each in HEADS if "RobertaForSequenceClassification" in each.name)
    model = case.build().float()
    batch = texts([9, 3, 12, 4, 2]) | {"labels": torch.tensor([0, 1, 0, 1, 1])}
    due = predict(model, batch).argmax(-1)
    monkeypatch.setattr(budget, "BATCH_BYTES", 1)
    found = predict_answers(model, [batch])
    assert torch.equal(found.predicted, due)
    assert torch.equal(found.labels, batch["labels"])


def test_longer_samples_are_fewer_at_once() -> None:
    model = named["LlamaForCausalLM"].build().float()
    counts = [samples_at_once(model, texts([length]), 10**6) for length in (100, 1000, 10_000)]
    assert counts[0] > 10 * counts[1] > 100 * counts[2] >= 100
    assert samples_at_once(model, texts([100]), 7) == 7
    assert tokens_at_once(model, 100, gradients=True) < tokens_at_once(model, 100)


def test_scores_bound_what_is_taken_at_once() -> None:
    """Twenty texts of 3,700 tokens and 20,000 words once took 23 GB."""
    model = named["LlamaForCausalLM"].build().float()
    model.config.vocab_size = 20_000
    assert samples_at_once(model, texts([3700]), 100) == 1
    assert samples_at_once(model, texts([64]), 100) < 64


def test_processes_take_as_many_samples_at_once_as_all_have_memory_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProcessGroup, "all_gather", lambda self, own: [own, 3])
    model = named["LlamaForCausalLM"].build().float()
    assert samples_at_once(model, texts([100]), 7) == 3


def test_images_are_counted_by_their_patches() -> None:
    model = named["ViTForImageClassification"].build().float()
    size_, channels = model.config.image_size, model.config.num_channels
    batch = {"pixel_values": torch.zeros(50, channels, size_, size_), "labels": torch.zeros(50, dtype=torch.long)}
    parts = list(fitting_parts([model], batch))
    assert [len(place) for place, _ in parts] == [50]
    assert torch.equal(torch.cat([place for place, _ in parts]), torch.arange(50))


@pytest.mark.parametrize("error", SHORTAGES, ids=lambda error: str(error)[:12])
def test_half_as_much_where_memory_is_short(error: Exception) -> None:
    tried: list[int] = []

    def work(batch: Batch) -> int:
        tried.append(batch_size(batch))
        if batch_size(batch) > 3:
            raise error
        return batch_size(batch)

    def halves(batch: Batch) -> list[Batch]:
        return list(split_batch(batch, -(-batch_size(batch) // 2)))

    assert run_in_parts(work, halves, {"x": torch.zeros(10)}) == [3, 2, 3, 2]
    assert tried == [10, 5, 3, 2, 5, 3, 2]
    with pytest.raises(type(error)):
        run_in_parts(
            lambda batch: 1 / 0 if batch_size(batch) > 10 else work({"x": torch.zeros(4)}),
            halves,
            {"x": torch.zeros(1)},
        )


def test_other_errors_are_not_a_shortage() -> None:
    with pytest.raises(RuntimeError, match="inconsistent"):
        run_in_parts(lambda batch: torch.zeros(2) @ torch.zeros(3), lambda batch: [batch, batch], {"x": torch.zeros(2)})


@pytest.mark.parametrize(("wanted", "room", "due"), [(32, 100, 32), (32, 31, 16), (32, 5, 4), (31, 5, 1), (8, 0, 1)])
def test_gradients_of_equal_parts_add_up_to_a_batch(wanted: int, room: int, due: int) -> None:
    from transfuse.config.finetune_options import FinetuneOptions

    assert micro_batch_size(FinetuneOptions(batch_size=wanted), room) == due


def test_processes_share_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    from transfuse.config.finetune_options import FinetuneOptions
    from transfuse.finetuning import trainer

    options = FinetuneOptions(batch_size=10, epochs=2)
    assert trainer.optimizer_steps(options, 100) == 20
    monkeypatch.setattr(trainer, "process_group", lambda: ProcessGroup(0, 4))
    assert trainer.optimizer_steps(options, 100) == 6
