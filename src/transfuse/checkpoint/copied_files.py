"""The files that are copied with a model: its tokenizer or processor, generation settings and sentence-transformers."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from transfuse.checkpoint.companions import (
    EXTRA_TOKENIZER_PATTERNS,
    GENERATION,
    TOKENIZER_PATTERNS,
    companion_files,
    matches_any,
)
from transfuse.checkpoint.sentences import sentence_files


@dataclass(frozen=True)
class CopiedFiles:
    """Hold the names of files, each with the folder that it is copied from.

    Attributes:
        companions: tokenizer, processor, generation settings and licenses.
        sentences: the files of sentence-transformers.
        folders: the folders whose other files are left out, the anchor's first.
    """

    companions: Mapping[str, Path]
    sentences: Mapping[str, Path]
    folders: tuple[Path, ...]

    def names(self) -> set[str]:
        """Return the names of all files."""
        return {*self.companions, *self.sentences}


def model_files(folder: Path | None) -> CopiedFiles:
    """Return the files that are copied from a model's folder; none if it is None."""
    if folder is None:
        return CopiedFiles({}, {}, ())
    companions, sentences = (dict.fromkeys(find(folder), folder) for find in (companion_files, sentence_files))
    return CopiedFiles(companions, sentences, (folder,))


def carried_files(new_base: Path | None, tuned: Path | None, with_tokenizer: bool) -> CopiedFiles:
    """Return the files that are copied with a fine-tune that was carried to a new base.

    Generation settings and files of sentence-transformers are those of the tuned model, since tuning sets them.

    Args:
        new_base: the folder of the new base; None if it was passed in memory.
        tuned: that of the tuned model.
        with_tokenizer: whether the tokenizer and the chat templates are those of the tuned model, too.
    """
    first, second = model_files(new_base), model_files(tuned)
    tokenizer = (*TOKENIZER_PATTERNS, *EXTRA_TOKENIZER_PATTERNS) if with_tokenizer else ()
    replaced = (GENERATION, *tokenizer)
    kept = {name: folder for name, folder in first.companions.items() if not matches_any(name, replaced)}
    own = {name: folder for name, folder in second.companions.items() if matches_any(name, replaced)}
    sentences = first.sentences if tuned is None else second.sentences
    return CopiedFiles(kept | own, sentences, (*first.folders, *second.folders))
