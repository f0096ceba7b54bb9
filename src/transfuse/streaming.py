"""The old spelling of `fuse(..., stream=True).save(...)`, kept for one version."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transfuse.checkpoint.output import Overwrite, check_target
from transfuse.fusion.fuse import fuse


def stream(
    models: Sequence[str | Path], target: str | Path, overwrite: Overwrite = "refuse", **options: Any
) -> dict[str, Any]:
    """Fuse checkpoints tensor by tensor, write the result, and return what `transfuse.json` holds."""
    check_target(Path(target), overwrite, [Path(model) for model in models])
    fusion = fuse([str(model) for model in models], stream=True, **options)
    fusion.save(target, overwrite)
    return fusion.record
