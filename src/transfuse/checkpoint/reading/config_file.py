"""Reading and checking the config.json of a checkpoint."""

import re
from collections.abc import Mapping
from pathlib import Path

import transformers
from transformers import CONFIG_MAPPING, AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from transfuse.base.libraries import quiet
from transfuse.checkpoint.reading.companions import CONFIG, SAFETENSORS_NAMES
from transfuse.checkpoint.reading.files import checked_json
from transfuse.checkpoint.reading.other_kinds import check_holds_model, check_not_quantized, check_transformers_config
from transfuse.errors import CheckpointError, first_line
from transfuse.network.registry import USER_CLASSES

LAYER_COUNT = re.compile(r"(num|n)_(\w+_)?layers?")  # names of entries that count layers
SIZE = re.compile(r"(image|patch|hidden|intermediate|vocab)_size|num_channels")
MAX_LAYERS = 10_000  # far more than any model has
MAX_CLASSES = 1_000_000
# The decoder starts with the last token of a text, the code of its language, whatever decoder_start_token_id says.
STARTS_WITH_LAST_TOKEN = ("mbart", "plbart")


def read_config(folder: Path) -> PreTrainedConfig:
    """Return the configuration in the config.json of a folder.

    Raises:
        CheckpointError: the file is missing or damaged, or transformers does not know the model.
    """
    file = folder / CONFIG
    if not file.is_file():
        check_holds_model(folder)
        raise CheckpointError(f"{folder}: no config.json; give a directory written by save_pretrained")
    raw = checked_json(file)
    model_type = _checked_model_type(raw, file)
    check_counts(raw, MAX_LAYERS, folder)
    try:
        with quiet():
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # each configuration class refuses values in its own way
        raise CheckpointError(
            f"{file}: not a valid {model_type} config ({first_line(error)}); correct the file"
        ) from error
    if not all(isinstance(name, str) for name in (config.id2label or {}).values()):
        raise CheckpointError(f"{file}: id2label should map numbers to names; correct the file")
    needs_start = config.is_encoder_decoder and config.model_type not in STARTS_WITH_LAST_TOKEN
    if needs_start and getattr(config, "decoder_start_token_id", None) is None:
        config.decoder_start_token_id = getattr(config, "pad_token_id", None)  # the start token of T5
    config.return_dict = True  # outputs are read by their names
    return config


def _checked_model_type(raw: object, file: Path) -> str:
    """Return the model_type of a parsed config.json, if it is one that can be loaded."""
    model_type = raw.get("model_type") if isinstance(raw, dict) else None
    if isinstance(raw, dict):
        check_transformers_config(raw, file)
    if not isinstance(raw, dict) or not isinstance(model_type, str):
        raise CheckpointError(f"{file}: no model_type; add the one of the model that the weights belong to")
    if model_type not in CONFIG_MAPPING:
        raise CheckpointError(
            f"{file}: transformers {transformers.__version__} knows no model_type {model_type!r};"
            " register a class of your own in a file and pass --spec FILE"
        )
    check_not_quantized(raw, file)
    if raw.get("transformers_weights"):
        raise CheckpointError(
            f"{file}: transformers_weights points elsewhere; remove it and name the file {SAFETENSORS_NAMES[0]}"
        )
    return model_type


def check_counts(config: Mapping[str, object], max_layers: int, folder: Path) -> None:
    """Check the sizes in a configuration, and in those nested in it, before anything of these sizes is created.

    Two negative sizes can give a positive number of patches, so each size is checked.

    Args:
        max_layers: largest number of layers; the number of classes is limited by `MAX_CLASSES`.

    Raises:
        CheckpointError: a size is negative, or there are too many layers or classes.
    """
    for name, value in config.items():
        if isinstance(value, Mapping):
            check_counts(value, max_layers, folder)
        if SIZE.fullmatch(str(name)) and any(number < 0 for number in _numbers(value)):
            raise CheckpointError(f"{folder}/config.json: {name} is {value}; a size is positive, correct the file")
        limit = max_layers if LAYER_COUNT.fullmatch(str(name)) else MAX_CLASSES if name == "num_labels" else None
        if limit is not None and isinstance(value, int | float) and value > limit:
            raise CheckpointError(
                f"{folder}/config.json: {name} is {value}, more than these weights can have (at most {limit});"
                " correct the file"
            )


def _numbers(value: object) -> list[float]:
    values = value if isinstance(value, list | tuple) else [value]
    return [number for number in values if isinstance(number, int | float)]


def model_class(config: PreTrainedConfig, folder: Path) -> type:
    """Return the class that `architectures` of a configuration names; `AutoModel` if it names none.

    Raises:
        CheckpointError: the class is not a model, or not one of this configuration.
    """
    if not config.architectures:
        return AutoModel
    name = config.architectures[0]
    architecture = USER_CLASSES.get(name) or getattr(transformers, name, None)
    mapped = getattr(config, "auto_map", None)
    own_code = mapped.values() if isinstance(mapped, Mapping) else ()
    if architecture is None and any(str(place).endswith(f".{name}") for place in own_code):
        raise CheckpointError(
            f"{folder}/config.json: architecture {name!r} is code beside the checkpoint (auto_map), which is never run;"
            " give a model of a class that transformers has"
        )
    if not (isinstance(architecture, type) and issubclass(architecture, PreTrainedModel)):
        raise CheckpointError(f"{folder}/config.json: architecture {name!r} is not a model of transformers; correct it")
    expected = getattr(architecture, "config_class", None)
    if expected is None or not isinstance(config, expected):
        raise CheckpointError(f"{folder}/config.json: architecture {name} is not of model_type {config.model_type}")
    return architecture
