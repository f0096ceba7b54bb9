"""Fuse independently trained Transformers into one, by optimal transport."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transfuse.errors import TransfuseError
    from transfuse.finetuning.finetune import Finetuned, finetune
    from transfuse.fusion.fuse import Fusion, fuse
    from transfuse.network.builder import Builder
    from transfuse.network.registry import register
    from transfuse.network.space import Group
    from transfuse.verification.declaration import check_declaration

__all__ = [
    "Builder",
    "Finetuned",
    "Fusion",
    "Group",
    "TransfuseError",
    "check_declaration",
    "finetune",
    "fuse",
    "register",
]
WHERE = {
    "Builder": "network.builder",
    "Finetuned": "finetuning.finetune",
    "Fusion": "fusion.fuse",
    "Group": "network.space",
    "TransfuseError": "errors",
    "check_declaration": "verification.declaration",
    "finetune": "finetuning.finetune",
    "fuse": "fusion.fuse",
    "register": "network.registry",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that `transfuse --help` need not wait for torch."""
    if name in WHERE:
        return getattr(import_module(f"transfuse.{WHERE[name]}"), name)
    raise AttributeError(f"module 'transfuse' has no attribute {name!r}")
