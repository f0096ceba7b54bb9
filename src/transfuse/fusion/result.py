"""The result of a fusion: a model, how it was made, and how it is written."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import PreTrainedModel

from transfuse.alignment.interface import Alignment
from transfuse.base.folders import given_path
from transfuse.checkpoint.cards.card import model_card
from transfuse.checkpoint.cards.carried import carried_card
from transfuse.checkpoint.reading.companions import CARD
from transfuse.checkpoint.reading.lazy_tensors import stored_tensors
from transfuse.checkpoint.record.copied_files import carried_files
from transfuse.checkpoint.record.origin import Origin
from transfuse.checkpoint.record.outcome import learning_line, reference
from transfuse.checkpoint.writing.output import Overwrite, atomic_directory
from transfuse.checkpoint.writing.owned import ADAPTER
from transfuse.checkpoint.writing.push import COMMIT_MESSAGE, check_push, push_folder
from transfuse.checkpoint.writing.save import Writer, model_writer, save_checkpoint
from transfuse.config.options import Options
from transfuse.fusion.adapter import AdapterBase
from transfuse.fusion.streamed import StreamedModel


@dataclass(frozen=True, kw_only=True)
class Fusion:
    """Hold a fused model and the record of how it was made.

    Attributes:
        fused: the fused model in evaluation mode, or a streamed model whose tensors are computed while they are
            written.
        alignments: one per model after the anchor, in order.
        options: the options of the fusion.
        record: the content of `transfuse.json`: inputs with hashes, options, versions, diagnostics of every space.
        origins: path and hashes of each model.
        processor: the processor that is saved with the model; None: the processor in the directory of
            `processor_of`.
        adapter_base: the model that adapters are differences from; None: there is none.
        processor_of: as of `Matched`.
    """

    fused: PreTrainedModel | StreamedModel
    alignments: tuple[Alignment, ...]
    options: Options
    record: dict[str, Any]
    origins: tuple[Origin, ...]
    processor: Any = None
    adapter_base: AdapterBase | None = None
    processor_of: str | None = None

    def __repr__(self) -> str:
        """Return the models, how they were aligned and merged, the samples, what training did, and what to do next."""
        models = self.record["models"]
        names = [model["path"] or f"model {number} (in memory)" for number, model in enumerate(models, 1)]
        shown = [f"{name} [{model['weight']:.4g}]" for name, model in zip(names, models, strict=True)]
        more = [f"{len(shown) - 4} more"] if len(shown) > 5 else []
        matched_on = f", matched on {self.record['match_on']}" if self.options.align != "none" else ""
        matched_on += ", as they share a base" if "shared_base" in self.record else ""
        count = self.record["calibration_samples"]
        samples = f"{count:,} of {self.record['data']}" if count else "none"
        history = self.record.get("learned_weights")
        learned = f"  result:  {learning_line(history, reference(self.record))}\n" if history else ""
        streamed = ", tensor by tensor" if isinstance(self.fused, StreamedModel) else ""
        model = self.fused.anchor if isinstance(self.fused, StreamedModel) else self.fused
        return (
            f"Fusion of {len(models)} {type(model).__name__}: {', '.join(shown[: 4 if more else 5] + more)}\n"
            f"  aligned: {self.options.align}{matched_on}, in the basis of {names[0]}\n"
            f"  merged:  {self.record['merge']}{streamed}\n"
            f"{learned}"
            f"  samples: {samples}\n"
            "  next:    .save(path) writes the checkpoint; .model is the fused model"
        )

    @property
    def model(self) -> PreTrainedModel:
        """Return the anchor's architecture with the fused weights. A streamed model is loaded at each access."""
        return self.fused.load() if isinstance(self.fused, StreamedModel) else self.fused

    @property
    def prepared_by(self) -> Any:
        """Return the processor that prepares samples for the model, or a path whose processor does."""
        return self.processor or self.processor_of or self.origins[0].path

    def save(
        self,
        path: str | Path,
        overwrite: Overwrite = "refuse",
        metrics: dict[str, Any] | None = None,
    ) -> Path:
        """Write the checkpoint, its model card and `transfuse.json`, and verify them.

        The written checkpoint is loaded and its outputs are compared. Of a streamed fusion, names, shapes and finite
        values are checked instead. With the option `adapter_out`, the subfolder `adapter` is written too.

        The folder appears complete or not at all.

        Args:
            overwrite: "refuse" or False refuses a folder that is not empty; "replace" or True replaces it if it holds a
                model and nothing else.
            metrics: measured values, by name, for the card.

        Returns:
            The folder of the checkpoint.

        Raises:
            ConfigError: `path` is not a path, or `overwrite` has another value.
            OutputError: `path` is not empty (unless it may be replaced), is not writable or is an input, or the disk
                is full.
        """
        return self._write(given_path(path), str(path), overwrite, metrics)

    def save_adapter(self, path: str | Path, rank: int) -> dict[str, Any]:
        """Write the difference of the fused model from its base as a LoRA adapter, which PEFT loads onto the base.

        The base is the model that was passed as `base`, or else the anchor. Linear layers of the trunk are approximated
        by products of this rank; if there were samples and the fusion was not streamed, in the metric of their inputs
        in the fused model. Other modules that differ are copied in full.

        Args:
            path: a folder, which is created or empty.
            rank: the largest rank of the difference of a layer, at least 1.

        Returns:
            What the adapter holds: `layers_held`, the share of the squared difference of the linear layers; `held`,
            that of all tensors; `copied`, the modules that were copied; `left_out`, the tensors that it lacks.

        Raises:
            ConfigError: no adapter can be written for this model, or the base has another shape.
            OutputError: `path` is not empty or is not writable, or the disk is full.
        """
        assert self.adapter_base is not None
        changed = self.fused.stored() if isinstance(self.fused, StreamedModel) else self.fused
        with atomic_directory(given_path(path)) as folder:
            return self.adapter_base.write(folder, changed, rank, str(path), self.record)

    def push_to_hub(
        self,
        repo_id: str,
        private: bool | None = None,
        token: str | None = None,
        commit_message: str = COMMIT_MESSAGE,
        metrics: dict[str, Any] | None = None,
    ) -> str:
        """Write what `save` writes to a repository on the Hub, which is created if there is none.

        Args:
            repo_id: the name of the repository, such as "user/name".
            private: whether a new repository is private; None: as the settings of its owner say.
            token: a token that may write there; None: the one of `hf auth login`, or HF_TOKEN.
            commit_message: the message of the commit.
            metrics: measured values, by name, for the card.

        Returns:
            The address of the repository.

        Raises:
            ConfigError: `repo_id` is no valid name or that of a parent, or there is no token.
            OutputError: the checkpoint cannot be written, or the Hub cannot be reached or refuses it.
        """
        check_push(repo_id, [*(origin.path for origin in self.origins), self._base_path], token)
        with TemporaryDirectory() as scratch:
            name = repo_id.rpartition("/")[2]
            folder = self._write(Path(scratch) / name, name, "refuse", metrics)
            return push_folder(folder, repo_id, private, token, commit_message)

    @property
    def _base_path(self) -> str | None:
        """Return the path or the name of the base of task vectors; None if there is none, or it was in memory."""
        path: str | None = self.record.get("base", {}).get("path")
        return path

    def _write(self, path: Path, output: str, overwrite: Overwrite, metrics: dict[str, Any] | None) -> Path:
        """Write and verify the checkpoint. The record and the card's command say that it was written to `output`."""
        document = self.record | {"output": output} | ({"metrics": metrics} if metrics else {})
        is_carried = "carried" in document
        write_card = carried_card if is_carried else model_card
        card = {CARD: write_card(Path(output).name, document)}
        paths = [origin.path for origin in self.origins]
        folders = [origin.folder for origin in self.origins if origin.folder]
        folders += [self._base_path] if self._base_path else []
        write = self.fused.write if isinstance(self.fused, StreamedModel) else model_writer(self.fused, paths[0])
        if self.options.adapter_out is not None:
            write = partial(self._write_with_adapter, write, document)
        files = carried_files(paths[0], paths[-1], self.processor_of) if is_carried else None
        return save_checkpoint(path, overwrite, write, paths, self.processor, document, card, folders, files)

    def _write_with_adapter(self, write: Writer, document: dict[str, Any], folder: Path) -> None:
        """Write the weights and then the adapter, from the written weights of a streamed model, and record it."""
        write(folder)
        assert self.adapter_base is not None
        assert self.options.adapter_out is not None
        changed = stored_tensors(folder, self.fused.anchor) if isinstance(self.fused, StreamedModel) else None
        (folder / ADAPTER).mkdir()
        document["adapter"] = self.adapter_base.write(
            folder / ADAPTER,
            self.fused if isinstance(self.fused, PreTrainedModel) else changed or self.fused.stored(),
            self.options.adapter_out,
            f"{document['output']}/{ADAPTER}",
            document,
        )
