"""Architectures that users teach: from a file of theirs, from an installed package, or from Python."""

from importlib.metadata import entry_points
from pathlib import Path
from runpy import run_path

import transformers
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedModel

from transfuse.config.literals import MERGE_METHODS, PLUGINS
from transfuse.errors import ConfigError, SpecError, first_line
from transfuse.network.families import FAMILIES, Family

USER_CLASSES: dict[str, type[PreTrainedModel]] = {}  # models that users have registered, by name
_imported: set[str] = set()  # what has been imported: importing again would make its classes anew


def register(architecture: str | type[PreTrainedModel], declaration: Family) -> None:
    """Teach transfuse an architecture.

    Args:
        architecture: the name of a transformers class, or a model class of your own, whose checkpoints can then be
            read.
        declaration: from a configuration to its `Spec`; see docs/adding-a-family.md.

    Raises:
        SpecError: no such class in transformers; a class of your own without a configuration class that names its
            model type; or a declaration that is no function.
    """
    if not callable(declaration):
        raise SpecError(f"register: the declaration should be a function from a configuration, not {declaration!r}")
    if isinstance(architecture, str):
        if not hasattr(transformers, architecture):
            raise SpecError(f"register: transformers has no {architecture}; give your own class itself")
        FAMILIES[architecture] = declaration
        return
    if not (isinstance(architecture, type) and issubclass(architecture, PreTrainedModel)):
        raise SpecError(f"register: {architecture!r} is no model class, nor the name of one")
    config = getattr(architecture, "config_class", None)
    if config is None or not config.model_type:
        raise SpecError(f"{architecture.__name__} needs a config_class with a model_type")
    USER_CLASSES[architecture.__name__] = architecture
    FAMILIES[architecture.__name__] = declaration
    if config.model_type not in CONFIG_MAPPING:
        AutoConfig.register(config.model_type, config)


def load_families(file: str | None = None) -> None:
    """Import the installed plugins, and a Python file of the user's; both call `register`.

    Raises:
        ConfigError: the file, or a plugin, cannot be imported or registers nothing.
    """
    for point in entry_points(group=PLUGINS):
        if point.value not in _imported:
            try:
                point.load()
            except Exception as error:  # whatever a plugin's code does
                raise ConfigError(f"plugin {point.name} cannot be imported: {first_line(error)}") from error
            _imported.add(point.value)
    if file is None or str(Path(file).resolve()) in _imported:
        return
    path = Path(file)
    before = {**FAMILIES, **MERGE_METHODS}
    if path.suffix != ".py" or not path.is_file():
        raise ConfigError(f"spec: {file} is no Python file; give one that calls transfuse.register")
    try:
        run_path(str(path), run_name=path.stem)
    except (Exception, SystemExit) as error:
        raise ConfigError(f"spec: {file} fails with {type(error).__name__}: {first_line(error)}") from error
    if before == {**FAMILIES, **MERGE_METHODS}:
        raise ConfigError(f"spec: {file} registers nothing; end it with transfuse.register(MODEL, DECLARATION)")
    _imported.add(str(path.resolve()))
