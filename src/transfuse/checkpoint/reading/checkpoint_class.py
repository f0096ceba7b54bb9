"""The class that a checkpoint is loaded as."""

from collections.abc import Iterable
from pathlib import Path

from transformers import MODEL_FOR_TEXT_ENCODING_MAPPING, MODEL_MAPPING, AutoModel, PreTrainedConfig

from transfuse.checkpoint.reading.companions import MODULES
from transfuse.checkpoint.reading.config_file import model_class


def checkpoint_class(config: PreTrainedConfig, folder: Path, names: Iterable[str]) -> type:
    """Return the class that a checkpoint is loaded as: the one that its config.json names, or the one without a head.

    It is the latter if config.json names none, or if the files hold the model alone, as sentence-transformers loads it,
    whatever class with a head config.json names.

    Args:
        names: the names of the tensors in the files.

    Raises:
        CheckpointError: the class is not a model, or not one of this configuration.
    """
    named = model_class(config, folder)
    if named is not AutoModel:
        encoder_alone = named is MODEL_FOR_TEXT_ENCODING_MAPPING.get(type(config), None)  # T5EncoderModel
        if encoder_alone or not (folder / MODULES).is_file() or not _is_bare(named, names):
            return named
    bare = MODEL_MAPPING.get(type(config), AutoModel)
    return bare[0] if isinstance(bare, tuple) else bare


def _is_bare(architecture: type, names: Iterable[str]) -> bool:
    """Return whether tensors of these names are those of the model inside a class with a head."""
    prefix = getattr(architecture, "base_model_prefix", "")
    return not any(name.startswith(f"{prefix}.") for name in names)
