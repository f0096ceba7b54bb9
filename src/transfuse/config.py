"""What a user may choose, checked: from keyword arguments, flags, or a strict YAML file with the same names."""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import yaml
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, PositiveFloat, PositiveInt, ValidationError

from transfuse.errors import ConfigError

Align = Literal["none", "flow", "exact"]
Merge = Literal["mean"]
Evidence = Literal["auto", "activations", "weights", "both"]
Plan = Literal["soft", "hard", "uniform"]
Dtype = Literal["auto", "float64", "float32", "bfloat16", "float16"]


class Options(BaseModel):
    """How models are fused. `auto` evidence: activations and weights where there is data, else weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    align: Align = "exact"
    merge: Merge = "mean"
    evidence: Evidence = "auto"
    plan: Plan = "soft"
    regularization: PositiveFloat | None = None
    weights: tuple[NonNegativeFloat, ...] | None = None
    samples: PositiveInt | None = None
    batch_size: PositiveInt = 100
    seed: int = 0
    device: str = "auto"
    dtype: Dtype = "auto"
    allow_pickle: bool = False

    def normalised_weights(self, models: int) -> list[float]:
        """One weight per model, summing to one. Raises `ConfigError` on a wrong number or a zero sum."""
        weights = self.weights or (1.0,) * models
        if len(weights) != models:
            raise ConfigError(
                f"weights: {len(weights)} given for {models} models; give one per model, the anchor's first"
            )
        if not sum(weights) > 0 or sum(weights) == float("inf"):
            raise ConfigError("weights: their sum must be positive and finite")
        return [weight / sum(weights) for weight in weights]

    def sample_count(self) -> int:
        """Calibration samples: as given, else the paper's 200 for flow and 2,000 for exact."""
        return self.samples or (200 if self.align == "flow" else 2000)

    def torch_device(self) -> torch.device:
        """The device to compute on; `auto` takes CUDA where there is one."""
        try:
            device = torch.device(
                ("cuda" if torch.cuda.is_available() else "cpu") if self.device == "auto" else self.device
            )
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise ConfigError(
                f"device: {self.device!r} is not usable here ({str(error).splitlines()[0]}); try cpu"
            ) from error
        return device

    def torch_dtype(self) -> torch.dtype | None:
        """The dtype to write; None for the anchor's."""
        return None if self.dtype == "auto" else getattr(torch, self.dtype)


class Job(Options):
    """A whole run of `transfuse fuse`, as a configuration file holds it."""

    models: tuple[str, ...] = ()
    data: str | None = None
    output: str | None = None
    overwrite: bool = False


def make(kind: type[Options], values: Mapping[str, Any], lines: Mapping[str, str] | None = None) -> Any:
    """Build options from `values`, or raise a `ConfigError` of one line.

    Args:
        lines: where each key stands ("job.yaml, line 3"), for the message.
    """
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        where = f"{lines[key]}: " if lines and key in lines else ""
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"{where}unknown option {key!r}{_nearest(key, kind)}") from error
        if first["type"] == "literal_error":
            allowed = ", ".join(get_args(kind.model_fields[key].annotation))
            raise ConfigError(f"{where}{key}: {values[key]!r} is not one of {allowed}") from error
        raise ConfigError(f"{where}{key}: {first['msg'].lower()}, found {first['input']!r}") from error


def _nearest(key: str, kind: type[Options]) -> str:
    near = get_close_matches(key, kind.model_fields, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(kind.model_fields)}"


def read(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """A YAML file's values and the place of every key.

    Raises:
        ConfigError: no such file, not YAML, not a mapping, or a key given twice.
    """
    try:
        text = path.read_text()
        tree = yaml.compose(text, yaml.SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error.__class__.__name__}); give a YAML file") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{where}: not YAML ({getattr(error, 'problem', None) or 'unreadable'})") from error
    if tree is None:
        return {}, {}
    if not isinstance(tree, yaml.MappingNode):
        raise ConfigError(f"{path}: should be a mapping of option names to values")
    lines: dict[str, str] = {}
    for node, _ in tree.value:
        place = f"{path}, line {node.start_mark.line + 1}"
        if node.value in lines:
            raise ConfigError(f"{place}: {node.value!r} is given twice, first in {lines[node.value]}")
        lines[str(node.value)] = place
    return {str(key): value for key, value in yaml.safe_load(text).items()}, lines
