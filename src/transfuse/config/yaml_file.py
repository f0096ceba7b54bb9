"""A configuration file: YAML, one mapping of option names to values, each name once."""

from pathlib import Path
from typing import Any

import yaml

from transfuse.base.folders import expanded
from transfuse.errors import ConfigError


def read(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the values of a YAML file, `batch-size` read as `batch_size`, and what to call each in messages.

    Raises:
        ConfigError: no such file, not YAML, not a mapping of names, or a name given twice.
    """
    try:
        text = expanded(path).read_text(encoding="utf-8-sig")
        tree = yaml.compose(text, yaml.SafeLoader)
        values = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give a YAML file") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read ({type(error).__name__}); give a YAML file in UTF-8") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        if problem == "but found another document":
            raise ConfigError(f"{path}{where}: a second YAML document begins; keep one in this file") from error
        raise ConfigError(f"{path}{where}: not plain YAML ({problem}); correct it") from error
    if values is None:
        return {}, {}
    if not isinstance(tree, yaml.MappingNode):
        raise ConfigError(f"{path}: should be a mapping of option names to values, such as align: flow")
    labels = _labels(path, tree)
    return _underscored(values), labels


def _underscored(values: dict[Any, Any]) -> dict[str, Any]:
    """Return the values by option names, those of nested options too."""
    return {
        str(key).replace("-", "_"): _underscored(value) if isinstance(value, dict) else value
        for key, value in values.items()
    }


def _labels(path: Path, tree: yaml.MappingNode, prefix: str = "") -> dict[str, str]:
    """Return how a message names each option, by its name, which is dotted where options are nested."""
    labels: dict[str, str] = {}
    for node, value in tree.value:
        line = node.start_mark.line + 1
        if not isinstance(node, yaml.ScalarNode) or node.tag != "tag:yaml.org,2002:str":
            raise ConfigError(f"{path}, line {line}: should be the name of an option")
        name = prefix + node.value.replace("-", "_")
        if name in labels:
            raise ConfigError(f"{path}, line {line}: {prefix}{node.value}: is given twice; keep one")
        labels[name] = f"{path}, line {line}: {prefix}{node.value}"
        if isinstance(value, yaml.MappingNode) and not prefix:
            labels |= _labels(path, value, f"{name}.")
    return labels
