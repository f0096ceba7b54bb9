"""The options that every command has, and limits on memory."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from transfuse.config.data_options import DataOptions
from transfuse.config.fields import Count, Memory, Place, Switch, option
from transfuse.config.labels import Labels
from transfuse.config.literals import Dtype
from transfuse.config.make import make
from transfuse.errors import ConfigError

if TYPE_CHECKING:
    import torch

RUN = "Computation"
# Options that change no map and no fitted layer.
UNRELATED_OPTIONS = {"merge", "dtype", "adapter_out", "device", "allow_pickle", "spec"}


class Settings(DataOptions):
    """The options that every command has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    batch_size: Count = option(100, "Samples per batch.", "COUNT", RUN)
    seed: Annotated[int, Field(ge=0, strict=True)] = option(
        0, "Seed for drawing samples, and for everything else that is random.", "NUMBER", RUN
    )
    device: str = option("auto", "auto: cuda if there is one. Or cpu, cuda:1, mps.", "DEVICE", RUN)
    allow_pickle: Switch = option(False, "Read pickled weights too; only tensors are unpickled.", panel=RUN)
    spec: Place | None = option(
        None,
        "Python file that registers a family, an alignment or a merge method of your own.",
        "FILE",
        RUN,
    )

    @field_validator("device", "dtype", "precision", mode="before", check_fields=False)
    @classmethod
    def _named(cls, value: object) -> object:
        """Return the name of a torch dtype or device. Other values stay as they are."""
        return str(value).removeprefix("torch.") if type(value).__module__ == "torch" else value

    def check(self, labels: Labels) -> None:
        """Raise `ConfigError` for options that contradict each other.

        Args:
            labels: how a message names each option.
        """

    def shared(self) -> dict[str, Any]:
        """Return those of the options that were given and that every command has."""
        return self.model_dump(include=set(Settings.model_fields), exclude_unset=True)

    def pickle_policy(self) -> Literal["refuse", "allow"]:
        """Return whether pickled weights may be read."""
        return "allow" if self.allow_pickle else "refuse"

    def torch_device(self) -> torch.device:
        """Return the device to compute on; `auto` takes CUDA if there is one.

        Raises:
            ConfigError: the device cannot be used here.
        """
        import torch

        cuda = torch.cuda.is_available()
        name = self.device if self.device != "auto" else _own_gpu() if cuda else "cpu"
        try:
            probe = torch.ones(1, device=torch.device(name))
            probe.item()  # "meta", which holds no numbers, fails here too
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0].partition(". ")[0].rstrip(".")
            raise ConfigError(f"device: {self.device!r} cannot be used here ({reason}); try cpu") from error
        return probe.device  # with its number


class MeasuringSettings(Settings):
    """The options of `transfuse.evaluate`."""

    limit: Count | None = option(None, "Measure on this many samples only, drawn with --seed.", "COUNT", RUN)


class MemoryLimits(BaseModel):
    """Limits on memory."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_memory: Memory | None = option(
        None,
        "Memory limit of the process, such as 8GB.",
        "SIZE",
        RUN,
    )
    max_device_memory: Memory | None = option(None, "Memory limit on the GPU, such as 20GB.", "SIZE", RUN)

    def check(self, labels: Labels) -> None:
        """Accept any two limits."""

    def memory_limit(self, settings: Settings) -> AbstractContextManager[None]:
        """Limit the memory of the process, and of the device in `settings`, within the context."""
        from transfuse.base.memory_limit import memory_limit

        return memory_limit(self.max_memory, self.max_device_memory, settings.torch_device())


def memory_bytes(limit: int | str | None) -> int | None:
    """Return a memory limit in bytes: a number, or text such as "8GB". Raises `ConfigError`."""
    return make(MemoryLimits, {"max_memory": limit}).max_memory


def torch_dtype(name: Dtype) -> torch.dtype | None:
    """Return the dtype of a name; None for `auto`."""
    import torch

    return None if name == "auto" else getattr(torch, name)


def _own_gpu() -> str:
    """Name the GPU of this process; with several processes on one machine, each has its own."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if "LOCAL_RANK" in os.environ else "cuda"
