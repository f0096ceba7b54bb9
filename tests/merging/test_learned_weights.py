"""Weights learned from what parents compute: a broken model comes back, a whole one stays, in every family."""

import pytest
import torch
from cases import CASES, HEADS, VIT, Case
from datasets import Dataset
from PIL import Image
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil, ViTModel

from transfuse.base import budget
from transfuse.base.batch import IGNORED_LABEL, cast, has_targets, validation_split
from transfuse.base.distributed import ProcessGroup
from transfuse.checkpoint.cards.card import model_card
from transfuse.config.literals import LearningOptions
from transfuse.distillation.teacher_weighting import uniform
from transfuse.distillation.validation import INTERVAL
from transfuse.errors import ConfigError, SpecError
from transfuse.fusion import match
from transfuse.fusion.fuse import fuse
from transfuse.merging.training import learned_weights, learning
from transfuse.merging.training.learned_weights import WeightDistillation
from transfuse.report.tables import fusion_summary

WITHOUT_HEADS = [case for case in HEADS if case.name in ("BertModel", "ViTModel", "T5Model")]
SAYING = [case for case in CASES if not case.name.startswith("ViTMAE")]  # it predicts pixels
families = pytest.mark.parametrize("case", [*SAYING, *WITHOUT_HEADS], ids=lambda case: case.name)


def batches(case: Case, count: int = 20) -> list[dict[str, torch.Tensor]]:
    return [cast(case.inputs(case.build().config, seed), torch.float64) for seed in range(count)]


def large_batches(case: Case, count: int = 20, size: int = 5) -> list[dict[str, torch.Tensor]]:
    """Batches of five as large: steps of as many answers take a fifth of the passes."""
    small = batches(case, size * count)
    return [
        {name: torch.cat([batch[name] for batch in small[start : start + size]]) for name in small[0]}
        for start in range(0, len(small), size)
    ]


def broken(case: Case, seed: int = 0) -> torch.nn.Module:
    """A copy with noise on every matrix."""
    model = case.build(1)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.add_(0.3 * weight.std() * torch.randn(weight.shape, generator=generator).to(weight))
    return model


@families
def test_a_broken_model_comes_nearer_in_every_family(case):
    fused, halves = broken(case), validation_split(large_batches(case))
    options = LearningOptions(steps=2 * INTERVAL)
    course = WeightDistillation(fused, [case.build(1)], [1.0], halves, options).run("weights")
    assert course.validated == (0, INTERVAL, 2 * INTERVAL)
    assert len(course.excess) == 3
    assert min(course.excess) < 0.9 * course.excess[0]
    again = WeightDistillation(fused, [case.build(1)], [1.0], halves, LearningOptions(steps=1), uniform, (), 0)
    assert again.validation_losses[0] == pytest.approx(min(course.excess), abs=1e-6)


@families
def test_a_model_that_is_what_its_parents_are_stays(case):
    model, parents = case.build(1), [case.build(1), case.build(1)]
    before = case.logits(model)
    WeightDistillation(
        model, parents, [0.4, 0.6], validation_split(large_batches(case)), LearningOptions(steps=INTERVAL)
    ).run("weights")
    torch.testing.assert_close(case.logits(model), before, atol=1e-5, rtol=1e-5)


def test_streams_are_what_brings_it_back():
    """Nothing but what is said tells less of what it should compute."""
    case = CASES[0]
    whole = case.build(1)
    left = {}
    for streams in (0.0, learned_weights.STREAM_WEIGHT):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(learned_weights, "STREAM_WEIGHT", streams)
            fused = broken(case)
            WeightDistillation(
                fused,
                [whole],
                [1.0],
                validation_split(large_batches(case)),
                LearningOptions(steps=4 * INTERVAL),
            ).run("weights")
        left[streams] = (case.logits(fused) - case.logits(whole)).square().mean()
    assert left[learned_weights.STREAM_WEIGHT] < 0.9 * left[0.0]


def test_who_is_believed_is_followed():
    case = CASES[0]
    first, second = case.build(1), case.build(2)
    sample = batches(case, 1)[0]

    def lesson(fused, believe):
        return WeightDistillation(
            fused, [first, second], [0.5, 0.5], ([sample], [sample]), LearningOptions(steps=1), believe, (), 0
        )

    def of_one(outputs):
        return torch.tensor([[1.0], [0.0]]).expand(-1, len(outputs.batch["pixel_values"])).to(torch.float64)

    def lacks(fused, believe):  # beyond the entropy of what should be said, which no model can have less of
        found = lesson(fused, believe)
        own = first(pixel_values=sample["pixel_values"]).logits.softmax(-1).detach()
        return float(found.loss(sample).detach() + (own * own.log()).sum(-1).mean())

    assert abs(lacks(case.build(1), of_one)) < 1e-6
    assert lacks(case.build(1), uniform) > 0.1


def test_padding_teaches_nothing():
    case = next(case for case in CASES if case.name == "BertForMaskedLM")
    parents, fused = [case.build(1), case.build(2)], case.build(3)
    sample = dict(batches(case, 1)[0])
    sample["attention_mask"] = torch.ones_like(sample["input_ids"])
    sample["attention_mask"][:, -2:] = 0
    sample["labels"] = sample["input_ids"].clone()
    sample["labels"][:, -2:] = IGNORED_LABEL
    other = sample | {"input_ids": sample["input_ids"].clone()}
    other["input_ids"][:, -2:] = 1
    lesson = WeightDistillation(
        fused, parents, [0.5, 0.5], ([sample], [sample]), LearningOptions(steps=1), uniform, (), 0
    )
    with torch.no_grad():
        torch.testing.assert_close(lesson.loss(sample), lesson.loss(other))


@pytest.mark.parametrize(
    ("augment", "room", "looks"),
    [("none", 2**30, 0), ("none", 0, 10), ("flip", 2**30, 10)],
)
def test_parents_are_looked_at_once_if_samples_come_again_as_they_were(monkeypatch, augment, room, looks):
    monkeypatch.setitem(budget.CACHES, "parent activations", room)
    case = CASES[0]
    parent, sample = case.build(1), batches(case, 1)
    lesson = WeightDistillation(
        broken(case), [parent], [1.0], (sample, sample), LearningOptions(steps=10, augment=augment), uniform, (), 0
    )
    passes = []  # but for the first, by which it is told how many answers a batch has
    parent.register_forward_hook(lambda *given: passes.append(given))
    losses = [lesson.loss(lesson._draw_batch()) for _ in range(10)]
    assert len(passes) == looks
    if augment == "none":
        torch.testing.assert_close(torch.stack(losses), losses[0].expand(10), atol=0, rtol=0)


@pytest.mark.parametrize(("name", "count"), [("ViTForImageClassification", 50), ("BertForMaskedLM", 5)])
def test_a_step_takes_a_hundred_answers_at_least(name, count):
    """Two images have as many, two texts of twelve words twenty-four."""
    case = next(case for case in CASES if case.name == name)
    fused, halves, seen = broken(case), (batches(case, 3), batches(case, 1)), []
    lesson = WeightDistillation(fused, [case.build(1)], [1.0], halves, LearningOptions(steps=2), uniform, (), 0)
    fused.register_forward_hook(lambda *given: seen.append(given))
    lesson.step()
    assert len(seen) == count


def test_texts_that_ask_nothing_teach_nothing():
    """A piece of a batch may have nothing to tell, where the batch as a whole does."""
    case = next(case for case in CASES if case.name == "BertForMaskedLM")
    sample = {name: torch.cat([each[name] for each in batches(case)]) for name in batches(case, 1)[0]}
    labels = torch.full_like(sample["input_ids"], IGNORED_LABEL)
    labels[:5] = sample["input_ids"][:5]
    halves = ([sample | {"labels": labels}], [sample | {"labels": labels}])
    assert len(labels) > learned_weights.MAX_TEXTS
    fused = broken(case)
    course = WeightDistillation(fused, [case.build(1)], [1.0], halves, LearningOptions(steps=INTERVAL)).run("weights")
    assert course.best > 0
    assert all(values.isfinite().all() for values in fused.parameters())


def test_what_is_left_alone_stays():
    case = CASES[0]
    fused, left = broken(case), "vit.layers.0.mlp.fc1"
    before = {name: values.clone() for name, values in fused.state_dict().items()}
    WeightDistillation(
        fused,
        [case.build(1)],
        [1.0],
        validation_split(large_batches(case)),
        LearningOptions(steps=INTERVAL),
        untouched=[left],
    ).run("weights")
    changed = {name for name, values in fused.state_dict().items() if not torch.equal(values, before[name])}
    assert changed
    assert not any(name.startswith(f"{left}.") for name in changed)


def test_a_run_that_was_cut_short_ends_as_one_that_was_not(tmp_path, cut_short):
    case, state = CASES[0], tmp_path / "state"

    def learn(state=None):
        fused = broken(case)
        course = WeightDistillation(
            fused,
            [case.build(1)],
            [1.0],
            validation_split(large_batches(case)),
            LearningOptions(steps=2 * INTERVAL),
        ).run("weights", state)
        return fused.state_dict(), course

    cut_short(lambda: learn(state))
    resumed, after = learn(state)
    whole, course = learn()
    assert after == course
    for name, values in whole.items():
        torch.testing.assert_close(resumed[name], values, atol=0, rtol=0)


def test_refused_without_samples():
    models = [CASES[0].build(seed) for seed in (1, 2)]
    with pytest.raises(ConfigError, match="merge: learned needs samples"):
        fuse(models, merge="learned")
    with pytest.raises(ConfigError, match="only align learned and merge learned take it"):
        fuse(models, steps=3)


def pictures(count: int) -> tuple[Dataset, ViTImageProcessorPil]:
    size, generator = VIT["image_size"], torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (count, size, size, 3), generator=generator, dtype=torch.uint8)
    data = Dataset.from_dict({"image": [Image.fromarray(each.numpy()) for each in pixels]})
    return data, ViTImageProcessorPil(size={"height": size, "width": size})


@pytest.mark.parametrize(("rate", "least"), [(100.0, 0.02), (0.01, 1e9)])
def test_where_little_is_gained_layers_are_fitted_as_without(monkeypatch, rate, least):
    """No sample is withheld from them then: what is spoilt costs time, not quality."""
    monkeypatch.setattr(learning, "MIN_GAIN", least)
    data, processor = pictures(20)
    parents = [ViTForImageClassification(ViTConfig(**VIT | {"num_channels": 3})).eval() for _ in range(2)]
    given = {"data": data, "processor": processor, "batch_size": 2}
    spoilt = fuse(parents, merge="learned", learning_rate=rate, steps=2, **given)
    plain = fuse(parents, merge="least-squares", **given)
    assert spoilt.record["learned_weights"]["best"] == 0
    assert spoilt.record["least_squares"] == plain.record["least_squares"]
    for name, values in plain.model.state_dict().items():
        assert torch.equal(spoilt.model.state_dict()[name], values), name
    record = spoilt.record | {"seconds": 1.0}
    assert "training gained too little, so the layers were fitted again" in fusion_summary("out", record)
    assert "That gained too little, so the result is layers that were fitted again" in model_card("out", record)


def test_a_headless_model_has_no_learned_maps_and_is_refused_before_it_is_aligned(monkeypatch):
    monkeypatch.setattr(match, "align", lambda *given: pytest.fail("aligned first"))
    data, processor = pictures(20)
    config = ViTConfig(**VIT | {"num_channels": 3})
    with pytest.raises(SpecError, match="ViTModel has no prediction head, which learning maps needs"):
        fuse([ViTModel(config).eval() for _ in range(2)], data, processor=processor, align="learned")


def test_texts_vary_while_a_masked_language_model_learns():
    case = next(case for case in CASES if case.name == "BertForMaskedLM")
    labeled = []
    for batch in batches(case, 10):
        ids = batch["input_ids"]
        hidden = torch.arange(ids.shape[1]) % 3 == 1
        labeled.append(
            batch | {"input_ids": ids.masked_fill(hidden, 0), "labels": ids.masked_fill(~hidden, IGNORED_LABEL)}
        )
    halves = validation_split(labeled)
    loop = WeightDistillation(broken(case), [case.build(1)], [1.0], halves, LearningOptions(steps=9), uniform, (), 0)
    assert loop.variants
    assert loop.variants.kept > 1
    drawn = [loop._training_batch(0) for _ in range(2 * loop.variants.kept)]
    assert drawn[0] is loop.train_batches[0]
    assert not torch.equal(drawn[0]["input_ids"], drawn[1]["input_ids"])
    assert all(first is again for first, again in zip(drawn, drawn[loop.variants.kept :], strict=False))
    state = loop.state_dict()
    drawn = loop._training_batch(1)
    loop.load_state_dict(state)
    assert loop._training_batch(1) is drawn


def test_a_split_leaves_out_samples_without_answers_after_it_has_cut_the_batch():
    labels = torch.full((5, 3), IGNORED_LABEL)
    labels[1:, 1] = 1
    train, validation = validation_split([{"labels": labels}], has_targets)
    assert [len(part) for part in (train, validation)] == [3, 1]
    assert all(map(has_targets, (*train, *validation)))


def test_a_training_that_diverges_ends_with_the_best_weights(monkeypatch):
    case = CASES[0]
    fused, halves = broken(case), validation_split(large_batches(case))
    before = {name: values.clone() for name, values in fused.state_dict().items()}
    loop = WeightDistillation(
        fused, [case.build(1)], [1.0], halves, LearningOptions(steps=4 * INTERVAL), uniform, (), 0
    )
    monkeypatch.setattr(loop, "excess_loss", lambda: float("nan"))
    history = loop.run("weights")
    assert (history.steps, history.best, len(history.excess)) == (INTERVAL, 0, 1)
    for name, values in fused.state_dict().items():
        torch.testing.assert_close(values, before[name])


def test_processes_decide_by_the_loss_of_the_first(monkeypatch):
    case = CASES[0]
    loop = WeightDistillation(
        broken(case), [case.build(1)], [1.0], validation_split(batches(case)), LearningOptions(steps=1)
    )
    monkeypatch.setattr(ProcessGroup, "all_gather", lambda self, own: [0.25, own])
    assert loop.excess_loss() == 0.25


def test_other_batches_of_a_resumed_run_begin_anew():
    case = CASES[0]
    options = LearningOptions(steps=2)

    def loop(size):
        halves = validation_split(large_batches(case, 40 // size, size))
        return WeightDistillation(broken(case), [case.build(1)], [1.0], halves, options, uniform, (), 0)

    one, other = loop(4), loop(2)
    one.step()
    other.load_state_dict(one.state_dict())
    assert len(other.draws) == len(other.train_batches) != len(one.draws)
    other.step()
    assert other.steps == 2


def test_no_gradient_stays_on_what_is_left_alone():
    case, left = CASES[0], "classifier"
    fused, halves = broken(case), validation_split(large_batches(case))
    options = LearningOptions(steps=2)
    loop = WeightDistillation(fused, [case.build(1)], [1.0], halves, options, uniform, [left], 0)
    loop.step()
    loop.restore_best()
    assert all(values.grad is None for values in fused.parameters())
    assert all(values.requires_grad for values in fused.parameters())
