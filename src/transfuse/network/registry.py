"""Architectures that users add: from a file, from an installed package, or from Python."""

from importlib.metadata import entry_points
from pathlib import Path
from runpy import run_path

import transformers
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedModel

from transfuse.config.literals import ALIGNMENTS, MERGE_METHODS, PLUGINS
from transfuse.errors import ConfigError, SpecError, first_line
from transfuse.network.families import FAMILIES, Family

CALLS = "give one that calls transfuse.register, alignment_method or merge_method"
USER_CLASSES: dict[str, type[PreTrainedModel]] = {}  # model classes that users have registered, by name
_imported: set[str] = set()  # plugins and files; importing them again would create their classes anew


def register(architecture: str | type[PreTrainedModel], declaration: Family) -> None:
    """Add an architecture.

    Args:
        architecture: the name of a transformers class, or a model class of your own, whose checkpoints can then be
            loaded.
        declaration: a function from a configuration to its `Spec`; see docs/adding-a-family.md.

    Raises:
        SpecError: transformers has no such class; your class has no configuration class with a model type; or the
            declaration is not a function.
    """
    if not callable(declaration):
        raise SpecError(f"register: the declaration should be a function from a configuration, not {declaration!r}")
    if isinstance(architecture, str):
        if not hasattr(transformers, architecture):
            raise SpecError(f"register: transformers has no class {architecture}; pass your own class itself")
        FAMILIES[architecture] = declaration
        return
    if not (isinstance(architecture, type) and issubclass(architecture, PreTrainedModel)):
        raise SpecError(f"register: {architecture!r} is not a model class, nor the name of one")
    config = getattr(architecture, "config_class", None)
    if config is None or not config.model_type:
        raise SpecError(f"register: {architecture.__name__} needs a config_class with a model_type")
    USER_CLASSES[architecture.__name__] = architecture
    FAMILIES[architecture.__name__] = declaration
    if config.model_type not in CONFIG_MAPPING:
        AutoConfig.register(config.model_type, config)


def load_families(file: str | None = None) -> None:
    """Import the installed plugins and a Python file of the user, all of which call `register`.

    Raises:
        ConfigError: a plugin cannot be imported, or the file cannot be imported or registers nothing.
    """
    for point in entry_points(group=PLUGINS):
        if point.value not in _imported:
            try:
                point.load()
            except Exception as error:  # a plugin may raise anything
                raise ConfigError(f"plugin {point.name} cannot be imported: {first_line(error)}") from error
            _imported.add(point.value)
    if file is not None and str(Path(file).resolve()) not in _imported:
        _run(Path(file))


def _run(path: Path) -> None:
    before = _registered()
    if path.suffix != ".py" or not path.is_file():
        raise ConfigError(f"spec: {path} is not a Python file; {CALLS}")
    try:
        run_path(str(path), run_name=path.stem)
    except (Exception, SystemExit) as error:
        raise ConfigError(f"spec: {path} fails with {type(error).__name__}: {first_line(error)}") from error
    if before == _registered():
        raise ConfigError(f"spec: {path} registers nothing; {CALLS}")
    _imported.add(str(path.resolve()))


def _registered() -> dict[str, object]:
    """Return all families, alignments and merge methods by name."""
    return {**FAMILIES, **ALIGNMENTS, **MERGE_METHODS}
