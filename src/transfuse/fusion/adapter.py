"""Write the difference of a fused model from its base as an adapter of PEFT."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from transformers import PreTrainedModel

from transfuse.activations.input_moments import InputMoments
from transfuse.base.batch import Batch, first_samples
from transfuse.base.folders import expanded
from transfuse.base.lazy import Tensors
from transfuse.base.memory_limit import CPU
from transfuse.base.torch_settings import own_torch_settings
from transfuse.checkpoint.adapters.layout import adapter_layout
from transfuse.checkpoint.adapters.writer import check_shapes, write_adapter
from transfuse.checkpoint.cards.adapter import adapter_card
from transfuse.checkpoint.reading.companions import CARD
from transfuse.checkpoint.reading.config_file import read_config
from transfuse.checkpoint.reading.hub_names import hub_name
from transfuse.checkpoint.reading.lazy_tensors import stored_tensors
from transfuse.checkpoint.reading.load import Model, adapter_base, load_model, local_directory
from transfuse.config.options import Options
from transfuse.network.class_order import class_order, with_classes
from transfuse.network.model import declaration
from transfuse.network.precision import as_dtype, compute_dtype

SAMPLES = 500  # on which the inputs of layers are measured


@dataclass(frozen=True)
class AdapterBase:
    """Hold the model that the adapter of a fusion is a difference from: the base, or else the anchor.

    Attributes:
        source: its path, its Hub name, or the loaded model. An adapter stands for the model that it was trained on.
        model: this model or one of the same shape, possibly without weights.
        batches: the calibration samples.
        device: runs the fused model on them.
    """

    source: Model
    model: PreTrainedModel
    batches: Sequence[Batch] = ()
    device: torch.device = CPU

    @classmethod
    def of(cls, source: Model, model: PreTrainedModel, options: Options) -> Self:
        """Return the model that an adapter would change.

        Raises:
            ConfigError: an adapter is asked for, and none can be written for this model.
        """
        base = cls(source, model, device=options.torch_device())
        if options.adapter_out is not None:
            adapter_layout(model, ())
            check_shapes(base._tensors(), model.state_dict())
        return base

    def with_samples(self, batches: Sequence[Batch]) -> Self:
        """Return the same with the calibration samples."""
        return replace(self, batches=batches)

    @own_torch_settings()
    def write(
        self, folder: Path, changed: PreTrainedModel | Tensors, rank: int, name: str, record: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Write an adapter with its card to an existing folder, and return what it holds.

        If there are samples, layers are approximated in the metric of their inputs in the fused model.

        Args:
            changed: the fused model, or its tensors by their names in the model if it cannot run.
            rank: the largest rank of the difference of a layer.
            name: what to call the adapter in its card.
            record: the content of the fusion's `transfuse.json`.

        Raises:
            ConfigError: no adapter can be written for this model.
        """
        base, revision = self._name()
        tensors = self._in_own_order(changed.state_dict() if isinstance(changed, PreTrainedModel) else changed)
        moments = self._moments(changed) if isinstance(changed, PreTrainedModel) and self.batches else {}
        content = write_adapter(folder, self.model, self._tensors(), tensors, rank, base, revision, moments)
        facts = {"base": base} | asdict(content)
        (folder / CARD).write_text(adapter_card(name, facts, type(self.model).__name__, record), encoding="utf-8")
        return facts

    def _moments(self, fused: PreTrainedModel) -> InputMoments:
        """Return the moments of the inputs of the layers of the fused model, on the first samples."""
        layers = adapter_layout(fused, ()).layers
        dtype = compute_dtype(fused.dtype)
        if fused.dtype != dtype or fused.device != self.device:
            fused = as_dtype(copy.deepcopy(fused), dtype).to(self.device)
        return InputMoments(fused, layers, list(first_samples(self.batches, SAMPLES)))

    def _in_own_order(self, tensors: Tensors) -> Tensors:
        """Return the tensors of the fused model with its classes in the order of the base, if they have its names."""
        own = self.source.config if isinstance(self.source, PreTrainedModel) else read_config(self._folder())
        order = class_order(own, self.model.config, type(self.model).__name__)
        return tensors if order is None else with_classes(tensors, declaration(self.model), order)

    def _tensors(self) -> Tensors:
        """Return the tensors of the base, without those that it lacks, such as a head."""
        if isinstance(self.source, PreTrainedModel):
            return self.source.state_dict()
        folder = self._folder()
        stored = stored_tensors(folder, self.model)
        return load_model(folder, pickle="allow").state_dict() if stored is None else stored

    def _folder(self) -> Path:
        """Return the folder of a base that was not loaded."""
        return adapter_base(self.source) or local_directory(self.source, "allow")

    def _name(self) -> tuple[str | None, str | None]:
        """Return the absolute path or the Hub name of the base, None if it has neither, and its revision."""
        if isinstance(self.source, PreTrainedModel):
            source = str(self.source.name_or_path or "")
        else:
            source = str(adapter_base(self.source) or self.source)
        folder = expanded(source)
        if source and folder.is_dir():
            return hub_name(str(folder.resolve())) or str(folder.resolve()), None
        name, _, revision = source.partition("@")
        return name or None, revision or None
