"""Write the difference of a fused model from its base as an adapter of PEFT."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from transfuse.activations.input_moments import InputMoments
from transfuse.base.batch import Batch
from transfuse.base.lazy import Tensors
from transfuse.checkpoint.adapter_card import adapter_card
from transfuse.checkpoint.adapter_layout import adapter_layout
from transfuse.checkpoint.adapter_writer import check_shapes, write_adapter
from transfuse.checkpoint.companions import CARD
from transfuse.checkpoint.hub_names import hub_name
from transfuse.checkpoint.lazy_tensors import stored_tensors
from transfuse.checkpoint.load import adapter_base, load_model, local_directory
from transfuse.fusion.compatible import Model


@dataclass(frozen=True)
class AdapterBase:
    """Hold the model that the adapter of a fusion is a difference from: the base, or else the anchor.

    Attributes:
        source: its path, its Hub name, or the loaded model. An adapter stands for the model that it was trained on.
        model: this model or one of the same shape, which can run on `batches` if there are any.
        batches: the calibration samples.
    """

    source: Model
    model: PreTrainedModel
    batches: Sequence[Batch] = ()

    def check(self) -> None:
        """Raise `ConfigError` if no adapter can be written for this model."""
        adapter_layout(self.model, ())
        check_shapes(self._tensors(), self.model.state_dict())

    def write(self, folder: Path, changed: Tensors, rank: int, name: str, record: Mapping[str, Any]) -> dict[str, Any]:
        """Write an adapter with its card to an existing folder, and return what it holds.

        Args:
            changed: the tensors of the fused model, by their names in the model.
            rank: the largest rank of the difference of a layer.
            name: what to call the adapter in its card.
            record: the content of the fusion's `transfuse.json`.

        Raises:
            ConfigError: no adapter can be written for this model.
        """
        base, revision = self._name()
        layers = adapter_layout(self.model, ()).layers
        moments = InputMoments(self.model, layers, self.batches) if self.batches else {}
        content = write_adapter(folder, self.model, self._tensors(), changed, rank, base, revision, moments)
        facts = {"base": base} | asdict(content)
        (folder / CARD).write_text(adapter_card(name, facts, type(self.model).__name__, record), encoding="utf-8")
        return facts

    def _tensors(self) -> Tensors:
        """Return the tensors of the base, without those of a head that it lacks."""
        if isinstance(self.source, PreTrainedModel):
            return self.source.state_dict()
        folder = adapter_base(self.source) or local_directory(self.source, "allow")
        stored = stored_tensors(folder, self.model)
        return load_model(folder, pickle="allow").state_dict() if stored is None else stored

    def _name(self) -> tuple[str | None, str | None]:
        """Return the absolute path or the Hub name of the base, None if it has neither, and its revision."""
        if isinstance(self.source, PreTrainedModel):
            source = str(self.source.name_or_path or "")
        else:
            source = str(adapter_base(self.source) or self.source)
        folder = Path(source).expanduser()
        if source and folder.is_dir():
            return hub_name(str(folder.resolve())) or str(folder.resolve()), None
        name, _, revision = source.partition("@")
        return name or None, revision or None
