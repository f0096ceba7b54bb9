"""The language of the targets of translations, which tokenizers of several languages mark with a token."""

from typing import Any

from transfuse.errors import CheckpointError


def lacks_target_language(tokenizer: Any) -> bool:
    """Return whether a tokenizer of several languages, as NLLB and mBART have, does not know that of the targets."""
    return getattr(tokenizer, "tgt_lang", "") is None


def check_target_language(tokenizer: Any) -> None:
    """Raise `CheckpointError` if a tokenizer of several languages does not know that of the targets."""
    if lacks_target_language(tokenizer):
        raise CheckpointError(
            "the tokenizer does not say the language of the targets; set src_lang and tgt_lang in tokenizer_config.json"
        )
