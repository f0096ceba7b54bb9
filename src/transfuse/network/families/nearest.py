"""The supported classes that are nearest to one that is not: of the same kind, with the most settings in common."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import fields

from transformers import CONFIG_MAPPING, PreTrainedConfig
from transformers.models.auto import modeling_auto as auto

from transfuse.errors import SpecError

CLOSEST = 4  # classes that a message names
# The kinds of models, with the classes of transformers for each model type. The first kind that has the type counts.
KINDS: tuple[tuple[str, Mapping[str, str | tuple[str, ...]]], ...] = (
    ("audio models", auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES),
    ("audio models", auto.MODEL_FOR_CTC_MAPPING_NAMES),
    ("audio models", auto.MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES),
    ("encoder-decoders", auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES),
    ("models of images and texts", auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES),
    ("models of images and texts", auto.MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES),
    ("image models", auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES),
    ("image models", auto.MODEL_FOR_IMAGE_MAPPING_NAMES),
    ("encoders of texts", auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES),
    ("decoders", auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
)
FIELDS = (  # what the fields of a configuration say of a model type that is in no mapping
    ("is_encoder_decoder", "encoder-decoders"),
    ("vision_config", "models of images and texts"),
    ("image_size", "image models"),
)
LANGUAGE_MODEL = "docs/families.md#language-models-inside-multimodal-checkpoints"


def nearest(config: PreTrainedConfig, supported: Mapping[str, Callable[[PreTrainedConfig], object]]) -> str:
    """Return the end of a sentence "this class is not supported; ..." that names supported classes close to it.

    Args:
        supported: the declarations of all supported classes.
    """
    if inner := _language_model(config, supported):
        try:
            supported[inner](config.text_config)
        except SpecError as error:
            return f"its language model is a {inner}, but {error}"
        return f"its language model can be fused as {inner}, and {LANGUAGE_MODEL} shows how"
    if siblings := sorted(name for name in supported if name in _classes(config.model_type)):
        return f"supported classes of the same model: {', '.join(siblings[:CLOSEST])}"
    kind = _kind(config.model_type, config)
    near = [(model_type, name) for found, mapping in KINDS if found == kind for model_type, name in _named(mapping)]
    common = {name: _common_fields(config, model_type) for model_type, name in near if name in supported}
    if not common:
        return f"no {kind} are"
    closest = sorted(common, key=lambda name: (-common[name], name))[:CLOSEST]
    return f"supported {kind} with the most similar configurations: {', '.join(closest)}"


def _kind(model_type: str, config: PreTrainedConfig) -> str:
    """Return what a model works on, and how; models that nothing tells of are decoders."""
    by_type = (kind for kind, mapping in KINDS if model_type in mapping)
    by_field = (kind for field, kind in FIELDS if getattr(config, field, None))
    return next(by_type, None) or next(by_field, "decoders")


def _language_model(config: PreTrainedConfig, supported: Collection[str]) -> str | None:
    """Return the supported class of the language model inside a multimodal model, if there is one."""
    text = getattr(config, "text_config", None)
    if not isinstance(text, PreTrainedConfig) or not hasattr(config, "vision_config"):
        return None
    name = dict(_named(auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)).get(text.model_type)
    return name if name in supported else None


def _classes(model_type: str) -> set[str]:
    """Return the names of all classes that transformers has for a model type."""
    mappings = [value for name, value in vars(auto).items() if name.endswith("_MAPPING_NAMES")]
    return {name for mapping in mappings for found, name in _named(mapping) if found == model_type}


def _named(mapping: Mapping[str, str | tuple[str, ...]]) -> list[tuple[str, str]]:
    """Return each model type with its class, or with the first of several."""
    return [(model_type, name if isinstance(name, str) else name[0]) for model_type, name in mapping.items()]


def _common_fields(config: PreTrainedConfig, model_type: str) -> float:
    """Return the share of the settings of either configuration that both have."""
    ours, theirs = ({field.name for field in fields(each)} for each in (type(config), CONFIG_MAPPING[model_type]))
    return len(ours & theirs) / len(ours | theirs)
