"""Fuse independently trained Transformers into one, by optimal transport."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # editors and type checkers read these; at run time __getattr__ imports a name on first use
    from transfuse.alignment.interface import AlignContext, Alignment
    from transfuse.alignment.methods import alignment_method
    from transfuse.config.flow_options import FlowOptions
    from transfuse.config.options import Options
    from transfuse.errors import TransfuseError
    from transfuse.evaluation.comparison import Evaluation
    from transfuse.evaluation.models import evaluate_models as evaluate
    from transfuse.finetuning.finetune import Finetuned, finetune
    from transfuse.fusion.fuse import Fusion, fuse, merge
    from transfuse.fusion.match import Matched, match
    from transfuse.merging.methods import MergeRequest, merge_method
    from transfuse.network.builder import Builder
    from transfuse.network.registry import register
    from transfuse.network.space import Group
    from transfuse.verification.declaration import check_declaration

PUBLIC = {  # every public name, and the module and name where it is defined
    "AlignContext": "alignment.interface:AlignContext",
    "Alignment": "alignment.interface:Alignment",
    "Builder": "network.builder:Builder",
    "Evaluation": "evaluation.comparison:Evaluation",
    "Finetuned": "finetuning.finetune:Finetuned",
    "FlowOptions": "config.flow_options:FlowOptions",
    "Fusion": "fusion.fuse:Fusion",
    "Group": "network.space:Group",
    "Matched": "fusion.match:Matched",
    "MergeRequest": "merging.methods:MergeRequest",
    "Options": "config.options:Options",
    "TransfuseError": "errors:TransfuseError",
    "alignment_method": "alignment.methods:alignment_method",
    "check_declaration": "verification.declaration:check_declaration",
    "evaluate": "evaluation.models:evaluate_models",
    "finetune": "finetuning.finetune:finetune",
    "fuse": "fusion.fuse:fuse",
    "match": "fusion.match:match",
    "merge": "fusion.fuse:merge",
    "merge_method": "merging.methods:merge_method",
    "register": "network.registry:register",
}
__all__ = [
    "AlignContext",
    "Alignment",
    "Builder",
    "Evaluation",
    "Finetuned",
    "FlowOptions",
    "Fusion",
    "Group",
    "Matched",
    "MergeRequest",
    "Options",
    "TransfuseError",
    "alignment_method",
    "check_declaration",
    "evaluate",
    "finetune",
    "fuse",
    "match",
    "merge",
    "merge_method",
    "register",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that `transfuse --help` does not wait for torch."""
    if name in PUBLIC:
        module, _, attribute = PUBLIC[name].partition(":")
        return getattr(import_module(f"transfuse.{module}"), attribute)
    raise AttributeError(f"module 'transfuse' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names, so that completion in a notebook shows them and nothing else."""
    return sorted(__all__)
