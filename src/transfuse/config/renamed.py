"""Old spellings of options and of their values, accepted for one version."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from transfuse.config.flow_options import FlowOptions

NAMES = {"evidence": "match_on", "trust": "teacher_weighting"}
VALUES = {
    "teacher_weighting": {"even": "uniform"},
    "flow.transform": {"standardise": "standardize", "centre": "center", "normalise": "normalize"},
}


def with_current_names(
    kind: type[BaseModel], values: Mapping[str, Any], labels: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return values and labels under the current names; options of the flow stand under `flow`."""
    current: dict[str, Any] = {}
    renamed = dict(labels)
    flow: dict[str, Any] = {}
    for name, value in values.items():
        if name in FlowOptions.model_fields and name not in kind.model_fields and "flow" in kind.model_fields:
            flow[name] = _current_value(f"flow.{name}", value)
            renamed[f"flow.{name}"] = labels.get(name, name)
            continue
        new = NAMES.get(name, name) if name not in kind.model_fields else name
        current[new] = _current_value(new, value)
        renamed[new] = labels.get(name, name)
    nested = current.get("flow")
    if isinstance(nested, Mapping):
        nested = {name: _current_value(f"flow.{name}", value) for name, value in nested.items()}
    if isinstance(nested, FlowOptions) and flow:
        nested = nested.model_dump(exclude_unset=True)
    if flow:
        current["flow"] = {**(nested or {}), **flow}
    elif nested is not None:
        current["flow"] = nested
    return current, renamed


def flag_name(name: str) -> str:
    """Return the current name of a flag, given without its dashes."""
    option = name.replace("-", "_")
    if option in FlowOptions.model_fields:
        return f"flow.{option.replace('_', '-')}"
    return NAMES[option].replace("_", "-") if option in NAMES else name


def _current_value(name: str, value: Any) -> Any:
    return VALUES.get(name, {}).get(value, value) if isinstance(value, str) else value
