"""The result of matching: models in one basis, and what is known about them."""

from collections.abc import Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

from transformers import PreTrainedModel

from transfuse.alignment.exact.model_maps import ModelMaps, model_maps
from transfuse.alignment.interface import AlignContext, Alignment, aligned_weights
from transfuse.base.lazy import Tensors
from transfuse.checkpoint.record.resized import resized_by_samples
from transfuse.config.options import Options
from transfuse.config.validation import check_mapped
from transfuse.distillation.history import History
from transfuse.errors import ConfigError
from transfuse.fusion.adapter import AdapterBase
from transfuse.fusion.cache_keys import CacheKeys
from transfuse.fusion.grow import GrowthPlan
from transfuse.fusion.models.inputs import Inputs
from transfuse.fusion.other_processors import OtherProcessor
from transfuse.fusion.sizes.changes import OTHER_SIZES
from transfuse.merging.fitting.fit_data import CarryTargets
from transfuse.network.model import Network


@dataclass(frozen=True, kw_only=True)
class Matched:
    """Hold models in one basis that are ready to be merged.

    Attributes:
        inputs: the models, the anchor first.
        weights: one per model; they sum to one.
        context: what units were matched on, and the prepared calibration batches.
        data: the calibration samples as the record names them, or None.
        split: the split of their source that they are; None: it has no splits.
        alignments: one per model after the anchor, in order.
        history: the training history of the maps; None if no maps were trained.
        stores: the caches of this fusion.
        seconds: the time in seconds for loading, preparing samples and aligning.
        workspace: a temporary folder for maps of streamed models, removed with this object; None: no such folder.
        base_correlation: how the weights of models of one base correlate, which were therefore not aligned; None: they
            share no base, or the user chose the alignment.
        base_alignment: the base in the anchor's basis; None: no base was given.
        carry: what layers are fitted to, where a fine-tune is carried; None: what the models compute.
        adapter_base: the model that adapters are differences from: the base, or else the anchor.
        growth: the sizes of a result that grows; None: it has the sizes of the anchor.
        other_processors: models whose processors differ from the anchor's; None: they were not compared, because no
            samples were read.
        processor_of: the path or the name of the model whose processor prepares the samples of a fine-tune that is
            carried; None: that of the anchor does.
    """

    inputs: Inputs
    weights: Sequence[float]
    options: Options
    context: AlignContext
    data: Any
    alignments: tuple[Alignment, ...]
    history: History | None
    stores: CacheKeys
    seconds: dict[str, float]
    split: str | None = None
    workspace: TemporaryDirectory[str] | None = None
    base_correlation: float | None = None
    base_alignment: Alignment | None = None
    carry: CarryTargets | None = None
    adapter_base: AdapterBase | None = None
    growth: GrowthPlan | None = None
    other_processors: tuple[OtherProcessor, ...] | None = None
    processor_of: str | None = None

    def __repr__(self) -> str:
        """Return the models, how they were aligned, and what to do next, in one line."""
        names = ", ".join(network.name for network in self.networks)
        return f"Matched {names}: aligned by {self.options.align}, on {self.context.match_on}; merge() fuses them"

    @property
    def answer_weights(self) -> Sequence[float]:
        """Return the weights of the models' predictions."""
        return self.weights if self.carry is None else self.carry.answer_weights

    @property
    def base(self) -> Tensors | None:
        """Return the tensors of the base in the anchor's basis, if there is a base."""
        return None if self.base_alignment is None else self.base_alignment.carried

    @property
    def parents(self) -> list[Tensors]:
        """Return the tensors of every model in the anchor's basis, the anchor first. A single model has a base."""
        if not self.alignments and self.base_alignment is not None:
            return [self.base_alignment.anchor]
        return aligned_weights(self.alignments)

    @property
    def uses_samples(self) -> bool:
        """Return whether samples changed the result; otherwise they are held out."""
        return self.data is not None and bool(self.context.batches or resized_by_samples(self.inputs.resized))

    @property
    def anchor(self) -> PreTrainedModel:
        """Return the first model, whose basis and shape the fused model has."""
        return self.inputs.anchor

    @property
    def networks(self) -> Sequence[Network]:
        """Return the models as networks, the anchor first."""
        return self.inputs.networks

    def maps(self) -> ModelMaps:
        """Return the maps from the units of the second model to those of the first, as both are saved.

        Where a fine-tune is carried, these lead from the base to the new base.

        Raises:
            ConfigError: there are more than two models, they have different sizes, or they were not aligned by their
                exact symmetries.
        """
        if self.base_correlation is not None:
            raise ConfigError("maps: models of one base are not aligned; choose align exact, or leave maps out")
        if self.inputs.resized or (self.carry is not None and self.options.align == "none"):
            raise ConfigError(OTHER_SIZES)
        check_mapped(self.options, 2 if self.carry else len(self.networks))
        names = {"anchor": self.networks[0].name, "source": self.networks[1].name}
        facts = names | {"architecture": type(self.anchor).__name__, "match_on": self.context.match_on}
        return model_maps(self.alignments[0], self.networks[0], self.networks[1], facts)
