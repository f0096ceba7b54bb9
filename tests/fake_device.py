"""A device that does not exist, so that what would fail on a GPU fails without one: its tensors hold their numbers on
the CPU, but mix with those of the CPU no more than a GPU's do. Once this is imported, torch knows it for good.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "elsewhere"
_setup_privateuseone_for_python_backend(NAME)
THERE = torch.device(NAME, 0)
aten = torch.ops.aten
MOVING = (aten._to_copy.default, aten.copy_.default)
INDEXING = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default)
JOINING = (aten.cat.default, aten.stack.default)  # take no single number from another device
TELLING = (aten._local_scalar_dense.default, aten.equal.default)  # what comes of them is a number


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
    found = func(*given, **named | ({"device": "cpu"} if device is not None and goes else {}))
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


def moved(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """torch makes tensors of numbers past any mode; so they are made here, and moved."""

    def made(*args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        found = make(*args, **kwargs)
        return found if device is None else found.to(device)

    return made
