"""Which part of the data is read, for data that do not use the usual names."""

from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, Field

from transfuse.config.fields import Count, Switch, option

READING = "Reading of DATA"
GENERATED = "generated"  # the value of `data` that asks for texts by the models, and their source in records
Name: TypeAlias = Annotated[str, Field(min_length=1)]


class DataOptions(BaseModel):
    """The split and the columns to read. None: those with usual names."""

    split: Name | None = option(
        None, "Split to read. Default: train for fusing and training, test for measuring.", "NAME", READING
    )
    text_column: Name | None = option(
        None, "Column of texts or of conversations, or two columns of pairs: premise,hypothesis.", "NAME", READING
    )
    label_column: Name | None = option(None, "Column of labels.", "NAME", READING)
    image_column: Name | None = option(None, "Column of images or of their file names.", "NAME", READING)
    lines: Switch = option(
        False, "Read each line of a .txt file as a text. Otherwise, blank lines separate texts.", panel=READING
    )
    block_size: Count | None = option(
        None,
        "Cut long texts for a language model into blocks of at most this many tokens, and pack short ones. Otherwise,"
        " only texts that are longer than the model takes are cut.",
        "TOKENS",
        READING,
    )
    stride: Count | None = option(
        None,
        "Let the blocks of a long text overlap: each predicts this many new tokens, and the tokens before them are"
        " their context. For causal language models.",
        "TOKENS",
        READING,
    )


def is_generated(data: Any) -> bool:
    """Return whether `data` asks for texts by the models."""
    return isinstance(data, str) and data == GENERATED
