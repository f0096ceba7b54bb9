"""Inputs damaged at random are refused in one line, or give a valid output: a few here, many in benchmarks/fuzz.py."""

from pathlib import Path

import pytest
from damage.judge import judged
from damage.kinds import KINDS
from damage.subjects import Subjects, build


@pytest.fixture(scope="session")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> Subjects:
    return build(tmp_path_factory.mktemp("subjects"))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_refused_in_one_line_or_valid(
    kind: str, seed: int, subjects: Subjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    verdict = judged(KINDS[kind], seed, subjects, tmp_path)
    assert verdict.kind != "failure", f"{verdict.command}\n{verdict.said}"
