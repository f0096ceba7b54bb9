"""Fuse independently trained Transformers into one, by optimal transport."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transfuse.errors import TransfuseError
    from transfuse.finetuning import Finetuned, finetune
    from transfuse.fusion import Fusion, fuse

__all__ = ["Finetuned", "Fusion", "TransfuseError", "finetune", "fuse"]


def __getattr__(name: str) -> Any:
    """Import on first use, so that `transfuse --help` need not wait for torch."""
    if name in ("fuse", "Fusion"):
        from transfuse import fusion

        return getattr(fusion, name)
    if name in ("finetune", "Finetuned"):
        from transfuse import finetuning

        return getattr(finetuning, name)
    if name == "TransfuseError":
        from transfuse.errors import TransfuseError

        return TransfuseError
    raise AttributeError(f"module 'transfuse' has no attribute {name!r}")
