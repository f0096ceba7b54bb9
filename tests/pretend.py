"""A device that does not exist, so that what would fail on a GPU fails without one: its tensors hold their numbers on
the CPU, but mix with those of the CPU no more than a GPU's do.

python tests/pretend.py flow exact

Fuses tiny models by these ways (all of WAYS without any), on the CPU and there; prints by how much weights differ, and
how many operations were done there, as JSON. A process of its own, as a device, once made known to torch, stays.
"""

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from datasets import Dataset, disable_progress_bars
from PIL import Image
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

import transfuse
from transfuse.config import Settings

NAME = "elsewhere"
_setup_privateuseone_for_python_backend(NAME)
THERE = torch.device(NAME, 0)
aten = torch.ops.aten
MOVING = (aten._to_copy.default, aten.copy_.default)
INDEXING = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default)
JOINING = (aten.cat.default, aten.stack.default)  # take no single number from another device
TELLING = (aten._local_scalar_dense.default, aten.equal.default)  # what comes of them is a number
SIZES = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12}


class Elsewhere(Tensor):
    """A tensor there; `inner` holds it."""

    @staticmethod
    def __new__(cls, inner: Tensor) -> "Elsewhere":
        return Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            layout=inner.layout, device=THERE,
        )  # fmt: skip

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    def __repr__(self) -> str:
        return f"Elsewhere({self.inner})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) not in memo:
            with torch.no_grad():
                copied = self.clone()
            parameter = isinstance(self, nn.Parameter)
            memo[id(self)] = nn.Parameter(copied, self.requires_grad) if parameter else copied
        return memo[id(self)]

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("only tensors on the CPU become arrays")

    __array__ = numpy

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return done(func, args, kwargs or {})


class Pretended(TorchDispatchMode):
    """Inside, the device is there; `there` counts what was done on it."""

    there = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return done(func, args, kwargs or {})


def done(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """An operation, where its tensors are. Raises `RuntimeError` where a GPU would."""
    tensors = [each for each in tree_flatten((args, kwargs))[0] if isinstance(each, Tensor)]
    away = [each for each in tensors if isinstance(each, Elsewhere)]
    Pretended.there += bool(away)
    if away and func not in MOVING and _strangers(func, args, tensors):
        raise RuntimeError(f"{func} takes tensors of one device")
    device = kwargs.get("device")
    goes = bool(away) if device is None else torch.device(device).type == NAME
    goes = isinstance(args[0], Elsewhere) if func is aten.copy_.default else goes and func not in TELLING
    if goes and kwargs.get("generator") is not None:
        raise RuntimeError(f"{func} there takes no generator of the CPU")
    given, named = tree_map(_inside, (args, dict(kwargs)))
    found = func(*given, **named | ({} if device is None else {"device": "cpu"}))
    if not goes:
        return found
    found = tree_map(lambda each: Elsewhere(each) if isinstance(each, Tensor) else each, found)
    shares = any(each.alias_info is not None for each in func._schema.returns)
    return return_and_correct_aliasing(func, args, kwargs, found) if shares else found


def _strangers(func: Any, args: tuple[Any, ...], tensors: list[Tensor]) -> list[Tensor]:
    """Those of the CPU that may not stand beside others."""
    here = [each for each in tensors if not isinstance(each, Elsewhere)]
    if func in INDEXING and isinstance(args[0], Elsewhere):  # indices may come from the CPU
        here = [each for each in args[2:] if isinstance(each, Tensor) and not isinstance(each, Elsewhere)]
    return here if func in JOINING else [each for each in here if each.ndim]


def _inside(each: Any) -> Any:
    return each.inner if isinstance(each, Elsewhere) else each


def _moved(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """torch makes tensors of numbers past any mode; so they are made here, and moved."""

    def made(*args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        found = make(*args, **kwargs)
        return found if device is None else found.to(device)

    return made


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


WAYS: dict[str, Callable[[], dict[str, Tensor]]] = {
    "default": of_pictures(),
    "average": of_pictures(align="none"),
    "flow": of_pictures(align="flow"),
    "flow, hard plans, weighted junctions": of_pictures(align="flow", plan="hard", policy="matrix"),
    "flow, heads kept apart": of_pictures(align="flow", heads="aware"),
    "flow, uniform": of_pictures(align="flow", plan="uniform", policy="identity"),
    "flow, other widths": of_widths(align="flow"),
    "flow, confident samples": of_pictures(align="flow", max_loss=9.0, tokens="class"),
    "exact, mean": of_pictures(merge="mean", evidence="both"),
    "permutations": of_pictures(groups="permutations", trust="labels"),
    "learned maps": of_pictures(align="learned", steps=2, augment="crop-flip"),
    "learned weights": of_pictures(merge="learned", steps=2, trust="confidence"),
    "language": of_texts(),
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
    torch.tensor, torch.as_tensor = _moved(torch.tensor), _moved(torch.as_tensor)
    torch.set_num_threads(1)
    disable_progress_bars()
    for name in sys.argv[1:] or WAYS:
        Pretended.there = 0
        print(json.dumps({"way": name, "differs": difference(WAYS[name]), "there": Pretended.there}), flush=True)


if __name__ == "__main__":
    main()
