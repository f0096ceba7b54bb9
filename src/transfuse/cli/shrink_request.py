"""Turn the flags of `transfuse shrink` into a checked request, before a model or a slow library is loaded."""

from dataclasses import dataclass
from pathlib import Path

from transfuse.base.folders import place
from transfuse.checkpoint.writing.output import check_outside, check_target
from transfuse.cli.flags import FlagValues, named_values
from transfuse.cli.targets import check_name, check_paths, local_paths, required_output
from transfuse.config.make import make
from transfuse.config.shrink_options import ShrinkOptions
from transfuse.config.validation import check_read
from transfuse.errors import ConfigError


@dataclass(frozen=True)
class ShrinkRequest:
    """What `transfuse shrink` was asked for. Without data and output, only sizes are planned."""

    model: str
    options: ShrinkOptions
    data: str
    output: Path
    overwrite: bool
    report: bool


def shrink_request(model: str, flags: FlagValues, data: str | None, plans: bool) -> ShrinkRequest:
    """Return what the flags of `transfuse shrink` describe.

    Args:
        plans: whether only the sizes are shown, so that no data and no output are needed.

    Raises:
        ConfigError: an option or a name is invalid, or the data or the output are missing.
        OutputError: the output cannot be written.
    """
    fields = ShrinkOptions.model_fields
    values, labels = named_values({name: value for name, value in flags.items() if name in fields})
    options = make(ShrinkOptions, values, labels)
    check_read(values, data, labels=labels)
    output = "" if plans else place(flags["output"] or "")
    for name in (model, data, output, options.like):
        check_name(name or "")
    overwrite = bool(flags["overwrite"])
    if not plans:
        if data is None:
            raise ConfigError(
                "--data: shrinking needs samples to measure what matters; give --data DATA (for a causal language"
                " model, --data generated will do)"
            )
        check_target(
            Path(required_output(output)), overwrite, [Path(model), *local_paths(data, options.spec, options.like)]
        )
        check_outside(Path(output), data)
    check_paths([model, *([options.like] if options.like else [])])
    return ShrinkRequest(model, options, data or "", Path(output), overwrite, bool(flags["report"]))
