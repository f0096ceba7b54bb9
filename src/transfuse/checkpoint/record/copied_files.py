"""The files that are copied with a model: its tokenizer or processor, generation settings and sentence-transformers."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from transfuse.checkpoint.reading.companions import (
    EXTRA_TOKENIZER_PATTERNS,
    GENERATION,
    TOKENIZER_PATTERNS,
    companion_files,
    matches_any,
)
from transfuse.checkpoint.reading.load import local_directory, unmerged_directory
from transfuse.checkpoint.reading.sentences import sentence_files


@dataclass(frozen=True)
class CopiedFiles:
    """Hold the names of files, each with the folder that it is copied from.

    Attributes:
        companions: tokenizer, processor, generation settings and licenses.
        sentences: the files of sentence-transformers.
        config: the folder of the configuration; None: the model was passed in memory.
        folders: the folders whose other files are left out, the anchor's first.
    """

    companions: Mapping[str, Path]
    sentences: Mapping[str, Path]
    config: Path | None
    folders: tuple[Path, ...]

    def names(self) -> set[str]:
        """Return the names of all files."""
        return {*self.companions, *self.sentences}


def model_files(source: str | Path | None) -> CopiedFiles:
    """Return the files that are copied with a model; none if it is None. An adapter has some files of its base too."""
    if source is None:
        return CopiedFiles({}, {}, None, ())
    folder, own = local_directory(source, "allow"), unmerged_directory(source, "allow")
    companions, sentences = dict.fromkeys(companion_files(folder), folder), dict.fromkeys(sentence_files(own), own)
    return CopiedFiles(companions, sentences, folder, (own,))


def carried_files(new_base: str | None, tuned: str | None, processor_of: str | None) -> CopiedFiles:
    """Return the files that are copied with a fine-tune that was carried to a new base.

    Generation settings and files of sentence-transformers are those of the tuned model, since tuning sets them.

    Args:
        new_base: the path or the name of the new base; None if it was passed in memory.
        tuned: that of the tuned model.
        processor_of: that of the model whose processor prepared the samples, and whose tokenizer is copied.
    """
    first, second = model_files(new_base), model_files(tuned)
    tokenizer = (*TOKENIZER_PATTERNS, *EXTRA_TOKENIZER_PATTERNS) if tuned is not None and processor_of == tuned else ()
    replaced = (GENERATION, *tokenizer)
    kept = {name: folder for name, folder in first.companions.items() if not matches_any(name, replaced)}
    own = {name: folder for name, folder in second.companions.items() if matches_any(name, replaced)}
    sentences = first.sentences if tuned is None else second.sentences
    return CopiedFiles(kept | own, sentences, first.config, (*first.folders, *second.folders))
