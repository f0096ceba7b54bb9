"""Tests run on one thread; what several of them take."""

from collections.abc import Callable

import pytest
import torch

from transfuse.distillation import loop

torch.set_num_threads(1)


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
