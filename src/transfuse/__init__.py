"""Fuse independently trained Transformers into one ordinary checkpoint, by matching their units."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # editors and type checkers read these; at run time __getattr__ imports a name on first use
    from transfuse.alignment.exact.model_maps import ModelMaps, load_maps
    from transfuse.alignment.interface import AlignContext, Alignment
    from transfuse.alignment.methods import alignment_method
    from transfuse.config.finetune_options import FinetuneOptions
    from transfuse.config.flow_options import FlowOptions
    from transfuse.config.options import Options
    from transfuse.config.shrink_options import ShrinkOptions
    from transfuse.data.load import load_samples
    from transfuse.data.samples import Samples
    from transfuse.errors import (
        CheckpointError,
        ConfigError,
        DataError,
        OutputError,
        SpecError,
        TransfuseError,
    )
    from transfuse.evaluation.comparison import Evaluation
    from transfuse.evaluation.models import evaluate_models as evaluate
    from transfuse.finetuning.finetune import finetune
    from transfuse.finetuning.result import Finetuned
    from transfuse.fusion.carrying.carry import carry
    from transfuse.fusion.fuse import fuse, merge
    from transfuse.fusion.match import match
    from transfuse.fusion.matched import Matched
    from transfuse.fusion.result import Fusion
    from transfuse.merging.methods import merge_method
    from transfuse.merging.request import MergeRequest
    from transfuse.network.builder import Builder
    from transfuse.network.model import Network, with_tensors
    from transfuse.network.registry import register
    from transfuse.network.space import Group
    from transfuse.shrinking.result import Shrunk
    from transfuse.shrinking.shrink import shrink
    from transfuse.verification.declaration import check_declaration

PUBLIC = {  # every public name, and the module and name where it is defined
    "AlignContext": "alignment.interface:AlignContext",
    "Alignment": "alignment.interface:Alignment",
    "Builder": "network.builder:Builder",
    "CheckpointError": "errors:CheckpointError",
    "ConfigError": "errors:ConfigError",
    "DataError": "errors:DataError",
    "Evaluation": "evaluation.comparison:Evaluation",
    "FinetuneOptions": "config.finetune_options:FinetuneOptions",
    "Finetuned": "finetuning.result:Finetuned",
    "FlowOptions": "config.flow_options:FlowOptions",
    "Fusion": "fusion.result:Fusion",
    "Group": "network.space:Group",
    "Matched": "fusion.matched:Matched",
    "MergeRequest": "merging.request:MergeRequest",
    "ModelMaps": "alignment.exact.model_maps:ModelMaps",
    "Network": "network.model:Network",
    "Options": "config.options:Options",
    "OutputError": "errors:OutputError",
    "Samples": "data.samples:Samples",
    "ShrinkOptions": "config.shrink_options:ShrinkOptions",
    "Shrunk": "shrinking.result:Shrunk",
    "SpecError": "errors:SpecError",
    "TransfuseError": "errors:TransfuseError",
    "alignment_method": "alignment.methods:alignment_method",
    "carry": "fusion.carrying.carry:carry",
    "check_declaration": "verification.declaration:check_declaration",
    "evaluate": "evaluation.models:evaluate_models",
    "finetune": "finetuning.finetune:finetune",
    "fuse": "fusion.fuse:fuse",
    "load_maps": "alignment.exact.model_maps:load_maps",
    "load_samples": "data.load:load_samples",
    "match": "fusion.match:match",
    "merge": "fusion.fuse:merge",
    "merge_method": "merging.methods:merge_method",
    "register": "network.registry:register",
    "shrink": "shrinking.shrink:shrink",
    "with_tensors": "network.model:with_tensors",
}
__all__ = [
    "AlignContext",
    "Alignment",
    "Builder",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "Evaluation",
    "FinetuneOptions",
    "Finetuned",
    "FlowOptions",
    "Fusion",
    "Group",
    "Matched",
    "MergeRequest",
    "ModelMaps",
    "Network",
    "Options",
    "OutputError",
    "Samples",
    "ShrinkOptions",
    "Shrunk",
    "SpecError",
    "TransfuseError",
    "alignment_method",
    "carry",
    "check_declaration",
    "evaluate",
    "finetune",
    "fuse",
    "load_maps",
    "load_samples",
    "match",
    "merge",
    "merge_method",
    "register",
    "shrink",
    "with_tensors",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that `transfuse --help` does not wait for torch."""
    if name == "__version__":
        return import_module("importlib.metadata").version("transfuse")
    if name in PUBLIC:
        module, _, attribute = PUBLIC[name].partition(":")
        return getattr(import_module(f"transfuse.{module}"), attribute)
    raise AttributeError(f"module 'transfuse' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names, so that completion in a notebook shows them and nothing else."""
    return sorted(__all__)
