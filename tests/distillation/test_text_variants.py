"""Variants of masked texts, drawn from the predictions of the parents."""

import torch
from cases import CASES

from transfuse.base.batch import IGNORED_LABEL, labels_of
from transfuse.distillation.text_variants import TextVariants, is_masked

BY_NAME = {case.name: case for case in CASES}
START, END, PADDING, MASK, VOCABULARY = 0, 1, 2, 3, 30
ANSWER = 17
KEPT = 4


def texts(seed: int = 0, rows: int = 40) -> dict[str, torch.Tensor]:
    """Texts of ten tokens between a start and an end, some of them masked, the last of each text padding."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(MASK + 1, VOCABULARY, (rows, 10), generator=generator)
    masked = torch.rand(words.shape, generator=generator) < 0.3
    ends = [torch.full((rows, 1), token) for token in (START, END, PADDING)]
    ids = torch.cat([ends[0], words.masked_fill(masked, MASK), *ends[1:]], 1)
    nothing = torch.full((rows, 1), IGNORED_LABEL)
    labels = torch.cat([nothing, words.masked_fill(~masked, IGNORED_LABEL), nothing, nothing], 1)
    return {"input_ids": ids, "labels": labels, "attention_mask": (ids != PADDING).long()}


def one_answer(batch):
    """Probabilities of a parent that always expects the same token."""
    yield torch.nn.functional.one_hot(torch.full((len(labels_of(batch)),), ANSWER), VOCABULARY).float()


def whole(batch):
    """The texts without their masks."""
    return torch.where(batch["labels"] == IGNORED_LABEL, batch["input_ids"], batch["labels"])


def test_a_variant_has_what_the_parents_expect_where_the_masks_were():
    batch = texts()
    variant = TextVariants([batch], KEPT, VOCABULARY, one_answer).variant(0, 1)
    hidden = batch["labels"] != IGNORED_LABEL
    rewritten = torch.where(variant["labels"] == IGNORED_LABEL, hidden, False)
    random = (variant["labels"] != IGNORED_LABEL).sum()
    assert (variant["input_ids"][rewritten] == ANSWER).all()
    assert (whole(variant)[hidden] == ANSWER).all()
    assert (whole(variant)[~hidden] == whole(batch)[~hidden]).all()
    assert 0.05 * hidden.numel() < random < 0.3 * hidden.numel()


def test_other_tokens_are_masked_but_no_start_end_or_padding():
    batch = texts()
    variants = TextVariants([batch], KEPT, VOCABULARY, one_answer)
    first, second = variants.variant(0, 1), variants.variant(0, 2)
    for variant in (first, second):
        assert (variant["labels"][:, [0, 11, 12]] == IGNORED_LABEL).all()
        assert (variant["attention_mask"] == batch["attention_mask"]).all()
    assert (first["labels"] != second["labels"]).any()
    assert (first["input_ids"] == MASK).any()


def test_variants_depend_on_their_number_and_the_seed_only():
    batch = texts()
    ahead = TextVariants([batch], KEPT, VOCABULARY, one_answer).variant(0, 3)
    stepwise = TextVariants([batch], KEPT, VOCABULARY, one_answer)
    inputs = [stepwise.variant(0, number)["input_ids"] for number in range(4)]
    assert torch.equal(ahead["input_ids"], inputs[3])
    other = TextVariants([batch], KEPT, VOCABULARY, one_answer, seed=1).variant(0, 3)
    assert not torch.equal(ahead["input_ids"], other["input_ids"])
    assert stepwise.variant(0, 0) is batch


def test_variants_take_turns_or_never_come_again():
    batch = texts()
    in_turns = TextVariants([batch], 3, VOCABULARY, one_answer)
    assert in_turns.variant(0, 1) is in_turns.variant(0, 4)
    endless = TextVariants([batch], 1, VOCABULARY, one_answer)
    assert not torch.equal(endless.variant(0, 1)["input_ids"], endless.variant(0, 4)["input_ids"])
    assert endless.by_batch == [[batch]]


def test_only_masked_language_models_have_variants():
    found = {name: is_masked(case.build(1), texts()) for name, case in BY_NAME.items() if "LM" in name}
    assert found["BertForMaskedLM"]
    assert not found["GPT2LMHeadModel"]
    assert not is_masked(BY_NAME["BertForMaskedLM"].build(1), {"input_ids": texts()["input_ids"]})


def test_a_text_in_which_nothing_would_be_masked_stays():
    """Tokens that were never masked, such as those of a short text, are not masked in a variant either."""
    batch = texts(rows=1)
    first = (batch["labels"] != IGNORED_LABEL).nonzero()[0]
    labels = torch.full_like(batch["labels"], IGNORED_LABEL)
    labels[tuple(first)] = batch["labels"][tuple(first)]
    ids = whole(batch)
    ids[tuple(first)] = MASK
    short = batch | {"input_ids": ids, "labels": labels}
    variants = TextVariants([short], KEPT, VOCABULARY, one_answer)
    assert all(len(labels_of(variants.variant(0, number))) for number in range(KEPT))
