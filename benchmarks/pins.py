"""Print the SHA-256 of the fused weights for every method, to test that a change of the code changes no weights.

    python benchmarks/pins.py > before.json
    python benchmarks/pins.py --against before.json

The models are tiny and random, and run with one thread. The hashes hold for one machine and one version of torch.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import transformers
from datasets import Dataset
from PIL import Image
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedModel, PreTrainedTokenizerFast, ViTImageProcessor

import transfuse

LABELS, WORDS = 4, 40
EXACT: dict[str, dict[str, Any]] = {
    "none": {"align": "none"},
    "exact": {"merge": "least-squares"},
    "exact-permutations": {"groups": "permutations", "merge": "least-squares"},
    "exact-activations": {"match_on": "activations", "merge": "mean"},
    "exact-both": {"match_on": "both", "merge": "mean"},
    "exact-weighted": {"weights": (0.3, 0.7), "merge": "mean"},
    "learned-maps": {"align": "learned", "merge": "mean", "steps": 6},
    "learned-weights": {"merge": "learned", "steps": 6},
    "confidence": {"teacher_weighting": "confidence", "merge": "least-squares"},
    "labels": {"teacher_weighting": "labels", "merge": "least-squares"},
}
FLOW: dict[str, dict[str, Any]] = {
    "default": {},
    "weights": {"match_on": "weights"},
    "hard": {"flow": {"plan": "hard"}},
    "uniform": {"flow": {"plan": "uniform"}},
    "support": {"flow": {"support": 4.0}},
    "cosine": {"flow": {"cost": "cosine", "scale": "mean"}},
    "squared": {"flow": {"cost": "squared", "scale": "median", "transform": "raw"}},
    "matrix": {"flow": {"policy": "matrix"}},
    "scalar": {"flow": {"policy": "scalar"}},
    "skip": {"flow": {"policy": "skip"}},
    "joint": {"flow": {"queries": "joint", "values": "context"}},
    "aware": {"flow": {"heads": "aware", "plan": "hard"}},
    "class": {"flow": {"tokens": "class"}},
    "window": {"flow": {"tokens": "window-2"}},
    "keep": {"flow": {"keep": ("embeddings", "head")}},
    "max-loss": {"flow": {"max_loss": 3.0}},
    "fitted": {"merge": "least-squares"},
}


def perturbed(model: PreTrainedModel) -> PreTrainedModel:
    """Add noise to every parameter, including gains and biases."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def vit(seed: int, width: int = 16) -> PreTrainedModel:
    torch.manual_seed(seed)
    config = transformers.ViTConfig(
        hidden_size=width, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=16,
        patch_size=4, num_labels=LABELS,
    )  # fmt: skip
    return perturbed(transformers.ViTForImageClassification(config))


def llama(seed: int) -> PreTrainedModel:
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=WORDS, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    return perturbed(transformers.LlamaForCausalLM(config))


def bert(seed: int) -> PreTrainedModel:
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=WORDS, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_labels=LABELS,
    )  # fmt: skip
    return perturbed(transformers.BertForSequenceClassification(config))


def pictures() -> Dataset:
    random = np.random.default_rng(0)
    images = [Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)) for _ in range(48)]
    return Dataset.from_dict({"image": images, "label": [index % LABELS for index in range(48)]})


def sentences() -> Dataset:
    random = np.random.default_rng(0)
    texts = [" ".join(f"w{word}" for word in random.integers(3, WORDS, 12)) for _ in range(48)]
    return Dataset.from_dict({"text": texts, "label": [index % LABELS for index in range(48)]})


def tokenizer() -> PreTrainedTokenizerFast:
    words = {"<pad>": 0, "<s>": 1, "</s>": 2} | {f"w{index}": index for index in range(3, WORDS)}
    plain = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="<pad>", eos_token="</s>")


def sha256(tensors: Mapping[str, torch.Tensor]) -> str:
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(name.encode())
        found.update(tensors[name].contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def fused(parents: list[PreTrainedModel], **options: Any) -> str:
    return sha256(transfuse.fuse(parents, batch_size=16, **options).model.state_dict())


def pins() -> Iterator[tuple[str, str]]:
    seen = {"data": pictures(), "processor": ViTImageProcessor(size={"height": 16, "width": 16})}
    read = {"data": sentences(), "processor": tokenizer()}
    kinds = {"vit": ([vit(0), vit(1)], seen), "llama": ([llama(0), llama(1)], read), "bert": ([bert(0), bert(1)], read)}
    for kind, (parents, samples) in kinds.items():
        for name, options in EXACT.items():
            if kind == "llama" and name == "labels":
                continue
            yield f"{kind} {name}", fused(parents, **samples, **options)
        yield f"{kind} weights alone", fused(parents)
        yield f"{kind} flow, weights alone", fused(parents, align="flow")
    yield "three, common basis", fused([vit(0), vit(1), vit(2)])
    for name, options in FLOW.items():
        yield f"flow {name}", fused([vit(0), vit(1)], align="flow", **seen, **options)
        if name not in ("aware", "keep"):
            yield f"flow {name}, wide to narrow", fused([vit(0), vit(1, 24)], align="flow", **seen, **options)
    with TemporaryDirectory() as folder:
        paths = [f"{folder}/{seed}" for seed in (0, 1)]
        for seed, path in enumerate(paths):
            llama(seed).save_pretrained(path)
        for align in ("none", "exact", "flow"):
            transfuse.fuse(paths, stream=True, align=align).save(f"{folder}/{align}")
            yield f"streamed {align}", sha256(load_file(f"{folder}/{align}/model.safetensors"))
    taught = transfuse.finetune(vit(0), pictures(), [vit(1)], processor=seen["processor"], epochs=1, batch_size=16)
    yield "finetune", sha256(taught.model.state_dict())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="compare with the hashes in this file")
    given = parser.parse_args()
    torch.set_num_threads(1)
    before = json.loads(given.against.read_text()) if given.against else {}
    found = {}
    for name, digest in pins():
        found[name] = digest
        if given.against and before.get(name) != digest:
            print(f"{name}: {before.get(name)} changed to {digest}", file=sys.stderr)
    if not given.against:
        print(json.dumps(found, indent=1))
    elif found == before:
        print(f"{len(found)} fusions, the same weights")
    else:
        sys.exit(1)


if __name__ == "__main__":
    main()
