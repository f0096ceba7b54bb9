"""Tests run on one thread; what several of them take."""

from collections.abc import Callable

import pytest
import torch
from cases import Case

from transfuse.distillation import loop

torch.set_num_threads(1)
REPRESENTATIVE = {  # one model of each structure; the other families repeat what these prove
    "ViTForImageClassification", "BertForMaskedLM-tie_word_embeddings", "GPT2LMHeadModel-tie_word_embeddings",
    "LlamaForCausalLM", "Qwen3MoeForCausalLM", "CLIPModel",
}  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that only repeat, for one more family, what a representative family shows."""
    for item in items:
        parameters = getattr(item, "callspec", None)
        cases = [value for value in parameters.params.values() if isinstance(value, Case)] if parameters else []
        if any(case.name not in REPRESENTATIVE for case in cases):
            item.add_marker(pytest.mark.families)


@pytest.fixture
def cut_short(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Runs a descent that is cut short once it has saved its state."""
    save_state = loop.save_state

    class CutError(Exception):
        pass

    def cut(path: object, state: object) -> None:
        save_state(path, state)  # type: ignore[arg-type]
        raise CutError

    def run(learn: Callable[[], object]) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(loop, "save_state", cut)
            with pytest.raises(CutError):
                learn()

    return run
