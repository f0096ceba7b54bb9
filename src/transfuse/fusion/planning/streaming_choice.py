"""Decide whether the models of a fusion are loaded, or stay in their files."""

from collections.abc import Sequence

from transformers import PreTrainedModel

from transfuse.base.budget import FLOAT_BYTES, available_bytes
from transfuse.base.sizes import format_bytes
from transfuse.checkpoint.reading.lazy_tensors import tensor_locations
from transfuse.checkpoint.reading.load import local_directory
from transfuse.config.options import Options
from transfuse.errors import ConfigError
from transfuse.fusion.models.anchor_settings import settings_lines
from transfuse.fusion.models.own_head import needs_own_head
from transfuse.fusion.models.padded_vocabulary import is_padded
from transfuse.fusion.planning.plan import Estimate
from transfuse.fusion.sizes.changes import size_changes

MODELS_IN_MEMORY = 2  # the fused model, and a candidate to compare, or the written model that is read to verify it


def streaming_obstacle(
    paths: Sequence[str],
    stored: Sequence[PreTrainedModel],
    models: Sequence[PreTrainedModel],
    names: Sequence[str],
    options: Options,
    has_data: bool,
) -> str | None:
    """Return why models must be loaded; None if they can be fused tensor by tensor.

    Args:
        paths: the checkpoints of the models that are not loaded already.
        stored: the models as they are stored, with or without weights, the anchor first.
        models: the same in the form of the anchor.
        names: what to call them.
    """
    if has_data and options.torch_device().type != "cpu":
        return "--data runs them on a GPU"
    if options.align == "learned":
        return "--align learned trains on them"
    if options.grow is not None:
        return "--grow changes sizes"
    if options.vocab != "same":
        return f"--vocab {options.vocab} reorders tokens"
    if options.head != "fused":
        return f"--head {options.head} replaces heads"
    if options.positions != "same":
        return f"--positions {options.positions} changes tables"
    if has_data and settings_lines(stored, names, options):
        return f"--settings {options.settings} changes models, which teach as they were"
    if any(map(size_changes, stored, models)):
        return "their sizes differ"
    tied = [name for name, model in zip(names, stored, strict=True) if needs_own_head(model, stored[0])]
    if tied:
        return f"the head of {tied[0]} is its embeddings, and the anchor's is not"
    padded = [name for index, name in enumerate(names) if index and is_padded(models, names, index)]
    if padded:
        return f"the vocabulary of {padded[0]} is padded to another number of rows"
    if len(paths) < len(models):
        return "a model is in memory already"
    for path, model in zip(paths, models, strict=True):
        if tensor_locations(local_directory(path, "allow"), model) is None:
            return f"{path} does not store all its tensors one by one as safetensors"
    return None


def needs_streaming(estimate: Estimate, obstacle: str | None, max_memory: int | None, has_data: bool) -> bool:
    """Return whether the models must be streamed because memory does not hold them.

    Args:
        obstacle: why they cannot be streamed; None if they can.
        max_memory: the limit in bytes; None: half of the free memory.
        has_data: whether the models run on samples. What samples take is not part of the estimates.

    Raises:
        ConfigError: the fusion needs more than `max_memory`, tensor by tensor too if that is possible.
    """
    loaded = loaded_bytes_with_data(estimate) if has_data else estimate.loaded_bytes
    streamed = mapped_bytes(estimate) if has_data else estimate.streamed_bytes
    needed = loaded if obstacle else min(streamed, loaded)
    if max_memory is not None and needed > max_memory:
        mode = "with --data, and weights mapped from files," if has_data else "tensor by tensor"
        mode = f"with all models in memory, because {obstacle}," if obstacle else mode
        raise ConfigError(f"max_memory: fusing {mode} takes about {format_bytes(needed)}; allow at least that much")
    limit = available_bytes() // 2 if max_memory is None else max_memory
    return obstacle is None and loaded > limit


def mapped_bytes(estimate: Estimate) -> int:
    """Return the memory of a fusion of mapped models, besides what samples take."""
    return estimate.streamed_bytes + MODELS_IN_MEMORY * _model_bytes(estimate)


def loaded_bytes_with_data(estimate: Estimate) -> int:
    """Return the memory of a fusion of loaded models, besides what samples take."""
    merged = len(estimate.models) + 1 if estimate.options.merging(True) != "mean" else 0  # fitted to aligned parents
    return estimate.loaded_bytes + merged * FLOAT_BYTES * estimate.fitted.num_parameters()


def _model_bytes(estimate: Estimate) -> int:
    return FLOAT_BYTES * max(model.num_parameters() for model in estimate.models)
