"""Load the base model of an adapter, with a new head or more tokens if the adapter brings the weights of them."""

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.base.libraries import quiet
from transfuse.checkpoint.reading.config_file import model_class, read_config
from transfuse.checkpoint.reading.files import stored_dtypes, weight_files
from transfuse.checkpoint.reading.shard_index import check_index
from transfuse.checkpoint.reading.ties import is_tied
from transfuse.checkpoint.reading.unread_tensors import is_unread
from transfuse.checkpoint.reading.weight_dtype import weight_dtype
from transfuse.errors import CheckpointError, QuantizedError, first_line

PREFIX = "base_model.model."  # of the names of an adapter's tensors
TASKS = {  # by task_type: the class that has the mapping from a configuration to the model with this head
    "SEQ_CLS": transformers.AutoModelForSequenceClassification,
    "TOKEN_CLS": transformers.AutoModelForTokenClassification,
    "QUESTION_ANS": transformers.AutoModelForQuestionAnswering,
    "CAUSAL_LM": transformers.AutoModelForCausalLM,
    "SEQ_2_SEQ_LM": transformers.AutoModelForSeq2SeqLM,
}
WEIGHT = r"((base_layer|modules_to_save|original_module|token_adapter)\.)*weight"  # of a module, and what peft wraps in
CLASSIFIER_MODULES = ("score", "classifier", "classifier.out_proj", "out_proj", "classification_head.out_proj")


def load_base(
    folder: Path, settings: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], name: str
) -> PreTrainedModel:
    """Load the base model of an adapter in the precision of its files.

    Args:
        settings: the content of adapter_config.json.
        shapes: the shapes of the adapter's tensors by name.
        name: what to call the base model in messages.

    Raises:
        CheckpointError: a file is missing or wrong, or a tensor is in neither the base nor the adapter.
    """
    try:
        config = read_config(folder)
    except QuantizedError as error:
        advice = "then set base_model_name_or_path in adapter_config.json to that model"
        raise CheckpointError(f"{name}: {error}; {advice}") from error
    own_class: Any = model_class(config, folder)
    architecture = adapted_class(config, own_class, settings)
    classes = {shapes[key][0] for head in CLASSIFIER_MODULES if (key := f"{PREFIX}{head}.weight") in shapes}
    if len(classes) == 1 and classes != {config.num_labels}:
        config.num_labels = classes.pop()
    files = weight_files(folder)
    dtypes = {file: stored_dtypes(file) for file in files}
    check_index(folder, dtypes)
    stored = {name: dtype for of_file in dtypes.values() for name, dtype in of_file.items()}
    try:
        with quiet():
            model, report = architecture.from_pretrained(
                folder,
                config=config,
                dtype=weight_dtype(architecture, config, stored),
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
    except Exception as error:  # the message of transformers says what is wrong
        raise CheckpointError(f"{name}: transformers cannot load it ({first_line(error)})") from error
    given = {key.removeprefix(PREFIX) for key in shapes}
    absent = {*report["missing_keys"], *(mismatch[0] for mismatch in report["mismatched_keys"])}
    if unknown := sorted(absent - given):
        raise CheckpointError(
            f"{name}: neither it nor the adapter has the weights of {unknown[0]} ({architecture.__name__}); give the"
            " model that the adapter was trained on, or an adapter saved with this module in modules_to_save"
        )
    unexpected = [key for key in report["unexpected_keys"] if not is_unread(key, type(model).__name__)]
    if architecture is own_class and unexpected:
        raise CheckpointError(
            f"{name}: tensor {min(unexpected)} is unexpected; its weights and config.json do not belong together"
        )
    _resize_vocabulary(model, settings, shapes, name)
    return model.eval()


def _resize_vocabulary(
    model: PreTrainedModel, settings: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], name: str
) -> None:
    """Resize the embeddings of a base model to the number of tokens that an adapter was trained with.

    Raises:
        CheckpointError: the adapter was trained with other tokens, and its file does not hold their embeddings.
    """
    try:
        inputs, head = model.get_input_embeddings(), model.get_output_embeddings()
    except NotImplementedError:  # a model without tokens
        return
    rows = getattr(inputs, "num_embeddings", None)
    if rows is None:
        return
    held = _held_rows(model, inputs, shapes)
    complete = head is None or is_tied(model) or _held_rows(model, head, shapes) == held
    if held not in (None, rows) and complete:
        with quiet():
            model.resize_token_embeddings(held, mean_resizing=False)  # all values come from the adapter
        _with_separate_embeddings(model)
        return
    trained = _trained_tokens(model, inputs, settings, shapes)
    if held not in (None, rows) or trained > rows:
        raise CheckpointError(
            f"{name}: it has {rows} tokens, the adapter {max(held or 0, trained)}, and the adapter's file lacks the"
            " embeddings or the head of the others; save the adapter with save_embedding_layers=True, or save the base"
            " with the tokens that were added, and name it in adapter_config.json"
        )


def _with_separate_embeddings(model: PreTrainedModel) -> None:
    """Give encoder and decoder modules of their own for one matrix, which they have unless embeddings are resized."""
    embeddings = model.get_input_embeddings()
    _, *others = [name for name, module in model.named_modules(remove_duplicate=False) if module is embeddings]
    for name in others:
        own = copy.deepcopy(embeddings)
        own.weight = embeddings.weight
        model.set_submodule(name, own)


def _held_rows(model: PreTrainedModel, module: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """Return how many rows the weight of an embedding or a head has in the adapter's file; None if it is not there."""
    pattern = re.compile(_prefix(model, module) + WEIGHT)
    return next((shape[0] for key, shape in shapes.items() if pattern.fullmatch(key)), None)


def _prefix(model: PreTrainedModel, module: nn.Module) -> str:
    """Return a pattern of what the names of an adapter's tensors for a module begin with."""
    names = [re.escape(f"{PREFIX}{name}.") for name, found in model.named_modules() if found is module]
    return f"({'|'.join(names)})"


def _trained_tokens(
    model: PreTrainedModel, inputs: nn.Module, settings: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> int:
    """Return the least number of tokens that an adapter was trained with, if its file has no embeddings."""
    chosen = settings.get("trainable_token_indices") or ()
    lists = chosen.values() if isinstance(chosen, dict) else [chosen]
    largest = max((index for indices in lists for index in indices), default=-1)
    pattern = re.compile(_prefix(model, inputs) + r"lora_embedding_A(\.\w+)?")
    return max([largest + 1, *(shape[1] for key, shape in shapes.items() if pattern.fullmatch(key))])


def adapted_class(config: PreTrainedConfig, own_class: Any, settings: Mapping[str, Any]) -> Any:
    """Return the class of the model that an adapter was trained on; the base's own class if nothing else is known."""
    mapping = settings.get("auto_mapping")
    named = mapping.get("base_model_class") if isinstance(mapping, dict) else None
    architecture = getattr(transformers, str(named), None)
    if isinstance(architecture, type) and getattr(architecture, "config_class", None) is type(config):
        return architecture
    task = settings.get("task_type")
    if task in ("CAUSAL_LM", "SEQ_2_SEQ_LM") and getattr(own_class, "can_generate", lambda: False)():
        return own_class
    classes = TASKS[task]._model_mapping.get(type(config), None) if task in TASKS else None
    candidates = classes if isinstance(classes, tuple) else (classes,)
    return own_class if own_class in candidates or candidates[0] is None else candidates[0]
