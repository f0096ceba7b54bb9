"""Fuses tiny models on a device that is pretended.

python tests/fuse_on_fake_device.py flow default

By these ways (all of WAYS without any), on the CPU and there; prints by how much weights differ, and how many
operations were done there, as JSON. A process of its own, as torch does not forget a device.
"""

import json
import sys
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from datasets import Dataset, disable_progress_bars
from fake_device import THERE, Pretended, moved
from PIL import Image
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

import transfuse
from transfuse.config.settings import Settings

SIZES = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12}


def vits(count: int = 2, **changes: Any) -> list[ViTForImageClassification]:
    sizes = SIZES | {"image_size": 8, "patch_size": 4, "num_channels": 1, "attn_implementation": "eager"}
    return [ViTForImageClassification(ViTConfig(**sizes | changes)).eval() for _ in range(count)]


def llamas() -> list[LlamaForCausalLM]:
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = LlamaConfig(
        **SIZES, num_key_value_heads=1, vocab_size=16, max_position_embeddings=16, attn_implementation="eager",
        **special,
    )  # fmt: skip
    return [LlamaForCausalLM(config).eval() for _ in range(2)]


def pictures() -> dict[str, Any]:
    noise = np.random.default_rng(0).integers(0, 255, (20, 8, 8)).astype(np.uint8)
    rows = {"image": [Image.fromarray(each) for each in noise], "label": [index % 2 for index in range(20)]}
    processor = ViTImageProcessorPil(
        do_resize=False, image_mean=[0.5], image_std=[0.5], size={"height": 8, "width": 8}
    )  # fmt: skip
    return {"data": Dataset.from_dict(rows), "processor": processor}


def texts() -> dict[str, Any]:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {word: index for index, word in enumerate(["[PAD]", "[BOS]", "[EOS]", *"abcdefghijklm"])}
    made = Tokenizer(models.WordLevel(words, unk_token="a"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", bos_token="[BOS]", eos_token="[EOS]", model_max_length=16
    )
    drawn = np.random.default_rng(0).integers(0, 13, (20, 12))
    rows = [" ".join("abcdefghijklm"[letter] for letter in row[: 6 + index % 6]) for index, row in enumerate(drawn)]
    return {"data": Dataset.from_dict({"text": rows}), "processor": tokenizer}


def of_pictures(**options: Any) -> Callable[[], dict[str, Tensor]]:
    return lambda: transfuse.fuse(vits(), **pictures(), batch_size=4, **options).model.state_dict()


def of_texts(**options: Any) -> Callable[[], dict[str, Tensor]]:
    return lambda: transfuse.fuse(llamas(), **texts(), batch_size=4, **options).model.state_dict()


def of_widths(**options: Any) -> Callable[[], dict[str, Tensor]]:
    given = lambda: [*vits(1), *vits(1, hidden_size=12)]  # noqa: E731
    return lambda: transfuse.fuse(given(), **pictures(), batch_size=4, **options).model.state_dict()


def of_depths(**options: Any) -> Callable[[], dict[str, Tensor]]:
    given = lambda: [*vits(1), *vits(1, num_hidden_layers=3)]  # noqa: E731
    return lambda: transfuse.fuse(given(), **pictures(), batch_size=4, **options).model.state_dict()


def of_cached_moments() -> dict[str, Tensor]:
    models = vits()
    with TemporaryDirectory() as cache:
        given = {**pictures(), "batch_size": 4, "align": "flow", "cache": cache}
        _, again = (transfuse.fuse(models, **given, flow={"plan": plan}) for plan in ("soft", "hard"))
    return again.model.state_dict()


WAYS: dict[str, Callable[[], dict[str, Tensor]]] = {
    "least squares": of_pictures(merge="least-squares"),
    "average": of_pictures(align="none"),
    "flow": of_pictures(align="flow"),
    "flow, hard plans, weighted junctions": of_pictures(align="flow", flow={"plan": "hard", "policy": "matrix"}),
    "flow, heads kept apart": of_pictures(align="flow", flow={"heads": "aware"}),
    "flow, cached moments": of_cached_moments,
    "flow, uniform": of_pictures(align="flow", flow={"plan": "uniform", "policy": "identity"}),
    "flow, other widths": of_widths(align="flow"),
    "fewer blocks": of_depths(merge="least-squares"),
    "flow, confident samples": of_pictures(align="flow", flow={"max_loss": 9.0, "tokens": "class"}),
    "exact, mean": of_pictures(merge="mean", match_on="both"),
    "permutations": of_pictures(groups="permutations", merge="least-squares", teacher_weighting="labels"),
    "learned maps": of_pictures(align="learned", steps=2, augment="crop-flip"),
    "learned weights": of_pictures(merge="learned", steps=2, teacher_weighting="confidence"),
    "language": of_texts(merge="least-squares"),
    "language, flow": of_texts(align="flow"),
    "language, learned": of_texts(align="learned", merge="learned", steps=2),
}


def difference(way: Callable[[], dict[str, Tensor]]) -> float:
    """The largest, of any weight, between the CPU and there."""
    found = []
    for device in ("cpu", THERE):
        Settings.torch_device = lambda self, device=device: torch.device(device)  # type: ignore[method-assign]
        torch.manual_seed(0)
        with Pretended():
            found.append(way())
    return max(float((found[0][name] - found[1][name]).abs().max()) for name in found[0])


def main() -> None:
    torch.tensor, torch.as_tensor = moved(torch.tensor), moved(torch.as_tensor)
    torch.set_num_threads(1)
    disable_progress_bars()
    for name in sys.argv[1:] or WAYS:
        Pretended.there = 0
        print(json.dumps({"way": name, "differs": difference(WAYS[name]), "there": Pretended.there}), flush=True)


if __name__ == "__main__":
    main()
