"""What a folder or a file holds that is not a checkpoint of transformers, and what to give instead, in one line."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transfuse.base.folders import expanded
from transfuse.checkpoint.reading.companions import ADAPTER_CONFIG, CONFIG
from transfuse.errors import CheckpointError, QuantizedError

CHECKPOINT_FOLDER = re.compile(r"checkpoint-(\d+)")  # what Trainer names them
MODEL_CONFIGS = (CONFIG, ADAPTER_CONFIG)
GGUF_ADVICE = "give the folder of the transformers model that it was made from"
WEIGHT_NAMES = {  # by the ending of a file: the name that from_pretrained looks for
    ".safetensors": "model.safetensors",
    ".bin": "pytorch_model.bin",
    ".pt": "pytorch_model.bin",
    ".pth": "pytorch_model.bin",
    ".ckpt": "pytorch_model.bin",
}
DEQUANTIZE = {  # by quant_method; other methods have no such setting in transformers
    "bitsandbytes": "{name}.from_pretrained(FOLDER).dequantize().save_pretrained(NEW)",
    "higgs": "{name}.from_pretrained(FOLDER).dequantize().save_pretrained(NEW)",
    "fp8": "quantization_config=FineGrainedFP8Config(dequantize=True) in from_pretrained, then save_pretrained",
    "mxfp4": "quantization_config=Mxfp4Config(dequantize=True) in from_pretrained, then save_pretrained",
}


def check_holds_model(folder: Path) -> None:
    """Raise `CheckpointError` if a folder without a model holds checkpoints, named adapters, or GGUF files."""
    if newest := _newest_checkpoint(folder):
        raise CheckpointError(
            f"{folder}: holds no model, only checkpoints of a training run; give the newest one, {newest}"
        )
    if adapters := sorted(file.parent.name for file in folder.glob(f"*/{ADAPTER_CONFIG}")):
        raise CheckpointError(
            f"{folder}: holds no model, but adapters in subfolders ({', '.join(adapters[:3])}); give one of them, such"
            f" as {folder / adapters[0]}"
        )
    if names := sorted(file.name for file in folder.glob("*.gguf")):
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise CheckpointError(f"{folder}: holds GGUF files for llama.cpp ({names[0]}{more}); {GGUF_ADVICE}")


def _newest_checkpoint(folder: Path) -> Path | None:
    """Return the folder `checkpoint-N` of the largest N that holds a model or an adapter; None if there is none."""
    steps = {
        int(match[1]): path
        for path in folder.iterdir()
        if (match := CHECKPOINT_FOLDER.fullmatch(path.name)) and any((path / name).is_file() for name in MODEL_CONFIGS)
    }
    return steps[max(steps)] if steps else None


def file_instead_of_folder(path: str | Path) -> CheckpointError:
    """Return the error for a file that was given where a checkpoint's folder belongs."""
    file = expanded(path)
    suffix = file.suffix.lower()
    if suffix == ".gguf":
        return CheckpointError(f"{path}: is a GGUF file for llama.cpp; {GGUF_ADVICE}")
    if any((file.parent / name).is_file() for name in MODEL_CONFIGS):
        return CheckpointError(f"{path}: is a file; give the directory that holds it, {file.parent}")
    if suffix in WEIGHT_NAMES:
        pickled = "" if suffix == ".safetensors" else ", and --allow-pickle if you trust its source"
        return CheckpointError(
            f"{path}: is a file of weights without a configuration; give a directory that holds it as"
            f" {WEIGHT_NAMES[suffix]} beside the config.json of its model{pickled}"
        )
    return CheckpointError(f"{path}: is a file; give the directory that holds config.json and the weights")


def check_transformers_config(config: Mapping[str, Any], file: Path) -> None:
    """Raise `CheckpointError` if a parsed config.json is one of timm.

    Args:
        file: where it was read, for the message.
    """
    if "model_type" not in config and isinstance(config.get("architecture"), str):
        raise CheckpointError(
            f"{file}: this is a timm checkpoint (architecture {config['architecture']!r:.80}); convert it to a model of"
            " transformers, or give one that transformers saved"
        )


def check_not_quantized(config: Mapping[str, Any], file: Path) -> None:
    """Raise `QuantizedError` if a parsed config.json says that the weights are quantized.

    Args:
        file: where it was read, for the message.
    """
    settings = config.get("quantization_config") or config.get("compression_config")
    if not settings:
        return
    method = settings.get("quant_method") if isinstance(settings, Mapping) else None
    if method is None and isinstance(settings, Mapping) and {"load_in_4bit", "load_in_8bit"} & settings.keys():
        method = "bitsandbytes"
    named = f" ({method!s:.40})" if method else ""
    architectures = config.get("architectures")
    name = architectures[0] if isinstance(architectures, list) and architectures else "AutoModel"
    how = DEQUANTIZE.get(str(method), "the tool that quantized them").format(name=name)
    raise QuantizedError(
        f"{file}: the weights are quantized{named}; give the model that they were made from, or dequantize them with"
        f" {how}, and save the tokenizer or processor with them"
    )
