"""What the processes of a run give each other."""

import pickle
from typing import Any

import pytest
import torch

from transfuse.base.distributed import ProcessGroup


def test_tensors_of_another_gpu_come_to_the_own_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors keep their device otherwise, and those of two devices cannot be computed with."""

    def gather(items: list[Any], item: Any) -> None:
        items[:] = [pickle.loads(pickle.dumps(item)) for _ in items]

    monkeypatch.setattr("torch.distributed.all_gather_object", gather)
    monkeypatch.setattr("torch.serialization.location_tag", lambda storage: "cpu:1")  # the device of the other process
    sent = {"index": torch.arange(3), "cost": 0.5}
    gathered = ProcessGroup(0, 2).all_gather(sent)
    assert len(gathered) == 2
    for found in gathered:
        assert found["index"].tolist() == [0, 1, 2]
        assert found["cost"] == 0.5
