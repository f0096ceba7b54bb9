"""A network out of reach."""

import socket
from typing import Any

import datasets
import pytest


@pytest.fixture(autouse=True)
def lookups(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Hosts that anything tried to reach, all in vain; the cache of `datasets` is new."""
    tried: list[str] = []

    def unreachable(host: str, *args: Any, **kwargs: Any) -> None:
        tried.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    return tried
