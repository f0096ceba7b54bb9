"""A whole run of `transfuse fuse`, as a configuration file holds it."""

from __future__ import annotations

from typing import Any

from transfuse.config.data_options import Name
from transfuse.config.fields import Place, Switch, option
from transfuse.config.labels import Labels, refused
from transfuse.config.options import Options
from transfuse.config.settings import MemoryLimits
from transfuse.config.validation import check_base, check_data


class Job(Options, MemoryLimits):
    """A whole run of `transfuse fuse`, as a configuration file holds it."""

    models: tuple[str, ...] = ()
    base: str | None = option(
        None,
        "The model that all models were fine-tuned from, for merging by task vectors.",
        "MODEL",
        "Merging",
    )
    data: Name | None = option(
        None,
        "Unlabeled samples to fit layers to and to train on: a folder of images, a text, parquet, CSV or JSON-lines"
        " file, a saved dataset, or a Hub name. `generated`: texts that the models, if they are causal language models,"
        " generate themselves. Without samples, the fused model is the mean of the aligned models.",
        "DATA",
        "Data and output",
    )
    output: Place | None = option(None, "Folder to write.", "OUT", "Data and output")
    cache: Place | None = option(
        None,
        "Keep statistics, maps and fitted layers here, and reuse those of the same models and data.",
        "DIR",
        "Data and output",
    )
    overwrite: Switch = option(False, "Replace OUT if it holds a model and nothing else.", panel="Data and output")
    report: Switch = option(
        False,
        "Write OUT/report.html too; with --data, measured on the test split of DATA (at most 2000 samples).",
        panel="Data and output",
    )
    maps: Place | None = option(
        None,
        "Write the maps between the units of both models to this .safetensors file, for probes, steering vectors and"
        " sparse autoencoders.",
        "FILE",
        "Data and output",
    )
    push_to_hub: Name | None = option(
        None,
        "Write the output, with its report, to this repository on the Hub too. It is created if there is none.",
        "REPO",
        "Data and output",
    )
    private: Switch = option(False, "Make a new repository on the Hub private.", panel="Data and output")

    def check(self, labels: Labels) -> None:
        """Raise `ConfigError` for options that have no effect beside the others, or that lack data."""
        super().check(labels)
        if self.private and self.push_to_hub is None:
            raise refused(labels, "private", "only push_to_hub takes it; name a repository")
        check_base(self, self.base is not None, self.data is not None, labels)
        check_data(self, self.data is not None, labels)

    def all_models(self) -> tuple[str, ...]:
        """Return the models, and the base, if there is one."""
        return self.models if self.base is None else (*self.models, self.base)

    def options(self) -> dict[str, Any]:
        """Return the options that were given, as keyword arguments of `transfuse.fuse`."""
        return self.model_dump(include=set(Options.model_fields), exclude_unset=True)
