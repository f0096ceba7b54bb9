"""What a long run leaves beside its output, so that it can go on where it was cut short."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from transfuse.errors import ConfigError, OutputError


@dataclass(frozen=True)
class State:
    """A file that holds a run's state; `run` says which run it is: inputs and options."""

    path: Path
    run: Mapping[str, Any]

    def load(self) -> dict[str, Any] | None:
        """What was saved; None if nothing was. Raises `ConfigError` where it is of another run or cannot be read."""
        if not self.path.exists():
            return None
        try:
            found = torch.load(self.path, weights_only=True)
            differing = sorted(
                name for name in {*self.run, *found["run"]} if self.run.get(name) != found["run"].get(name)
            )
        except Exception as error:
            raise ConfigError(f"--resume: {self.path} cannot be read; remove it and start again") from error
        if differing:
            raise ConfigError(
                f"--resume: {self.path} is of a run that differs in: {', '.join(differing)}; go on with the same, or"
                " remove it"
            )
        return dict(found["state"])

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace what was saved, all at once. Raises `OutputError`."""
        partial = self.path.with_name(f"{self.path.name}.partial")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            torch.save({"run": dict(self.run), "state": dict(state)}, partial)
            os.replace(partial, self.path)
        except (OSError, RuntimeError) as error:
            partial.unlink(missing_ok=True)
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise OutputError(f"{self.path}: the state of the run cannot be written ({reason})") from error
