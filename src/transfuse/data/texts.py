"""From texts to the tensors a language model takes, by the checkpoint's own tokenizer."""

import copy
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedConfig

from transfuse.base.batch import IGNORED_LABEL
from transfuse.errors import CheckpointError, ConfigError
from transfuse.network.field_roles import POSITIONS_AFTER_PADDING

UNLIMITED = 2**20  # tokens: what tokenizers that know no limit are cut at
MASK_RATE = 0.15  # share of the tokens that a masked-language model has to guess (Devlin et al., 2019)


def load_tokenizer(checkpoint: str | Path, config: PreTrainedConfig) -> Any:
    """The tokenizer saved in `checkpoint`. Never runs code from it and never asks the Hub.

    Raises:
        CheckpointError: there is none, or it cannot be read.
    """
    folder = Path(checkpoint)
    if not has_tokenizer(folder):
        raise CheckpointError(f"{folder}: has no tokenizer; save the one that the model was trained with beside it")
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:
        what = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{folder}: its tokenizer cannot be loaded: {what}") from error
    if not isinstance(tokenizer.model_max_length, int | float) or not tokenizer.model_max_length >= 1:
        raise CheckpointError(f"{folder}: model_max_length in tokenizer_config.json should be a number of tokens")
    return tokenizer


def has_tokenizer(folder: Path) -> bool:
    """Whether a tokenizer was saved in a folder."""
    return any(any(folder.glob(name)) for name in ("tokenizer*", "vocab*", "spiece*", "sentencepiece*"))


def vocabulary(folder: Path, config: PreTrainedConfig) -> dict[str, int] | None:
    """Numbers of all tokens that the tokenizer saved in a folder knows; None where there is none."""
    return load_tokenizer(folder, config).get_vocab() if has_tokenizer(folder) else None


def max_tokens(config: PreTrainedConfig) -> int | None:
    """Most tokens that a model with this configuration takes; None: no limit. RoBERTa counts from its padding on."""
    places = getattr(config, "max_position_embeddings", None)
    return places - config.pad_token_id - 1 if places and config.model_type in POSITIONS_AFTER_PADDING else places


def text_preparer(
    tokenizer: Any, length: int | None = None, words: int | None = None
) -> Callable[[list[Any]], dict[str, Tensor]]:
    """A function from texts to `input_ids` and `attention_mask` [batch, token], padded to the longest. Padding stands
    behind the texts: in front, it would move the positions of what is read.

    Args:
        length: most tokens that the model takes; what is longer is cut.
        words: how many the model knows.

    Raises:
        ConfigError: the tokenizer cannot pad.
        CheckpointError, from the function: a text has a token that the model does not know.
    """
    if tokenizer.pad_token is None:
        raise ConfigError("texts of several lengths need a tokenizer with a padding token; this one has none")
    most = min(length or UNLIMITED, tokenizer.model_max_length, UNLIMITED)
    how = {"padding": True, "padding_side": "right", "truncation": True, "max_length": most, "return_tensors": "pt"}

    def prepare(texts: list[Any]) -> dict[str, Tensor]:
        try:
            found = dict(tokenizer(texts, **how))
        except Exception as error:  # a tokenizer has as many ways to fail as there are settings in its files
            what = " ".join(str(error).split())[:200]
            raise CheckpointError(f"the tokenizer cannot prepare texts: {what}") from error
        if not found["input_ids"].numel():  # empty texts: they are all padding, as they are beside longer ones
            padding = torch.full((len(texts), 1), tokenizer.pad_token_id)
            found = {name: padding if name == "input_ids" else torch.zeros_like(padding) for name in found}
        if words is not None and found["input_ids"].max() >= words:
            raise CheckpointError(
                f"the tokenizer gives token {int(found['input_ids'].max())}, the model knows {words}; they do not"
                " belong together"
            )
        return found

    return prepare


def masked_preparer(
    tokenizer: Any, length: int | None = None, round_: Callable[[], int] = lambda: 0, words: int | None = None
) -> Callable[[list[Any]], dict[str, Tensor]]:
    """Mask tokens as in BERT's training, and add `labels` [batch, token]: the masked ones, else `IGNORED_LABEL`.

    What is hidden of a text depends on it and on the round alone: every model is asked the same, in whatever batches.

    Args:
        round_: which round it is; in the next epoch of a training, other words are hidden.

    Raises:
        ConfigError: the tokenizer has no mask token.
    """
    if tokenizer.mask_token is None:
        raise ConfigError("a masked-language model needs a tokenizer with a mask token; this one has none")
    plain = text_preparer(tokenizer, length, words)
    special = torch.tensor(tokenizer.all_special_ids)

    def prepare(texts: list[Any]) -> dict[str, Tensor]:
        inputs, rows = plain(texts), []
        for text, ids, mask in zip(texts, inputs["input_ids"], inputs["attention_mask"], strict=True):
            generator = torch.Generator().manual_seed(zlib.crc32(f"{round_()} {text}".encode()))
            own = ids[: int(mask.sum())]  # what is drawn for a text must not depend on longer ones beside it
            shown, labels = mask_tokens(own, special, tokenizer.mask_token_id, len(tokenizer), generator)
            rest = torch.full_like(ids[len(own) :], IGNORED_LABEL)
            rows.append((torch.cat([shown, ids[len(own) :]]), torch.cat([labels, rest])))
        ids, labels = (torch.stack(each) for each in zip(*rows, strict=True))
        return inputs | {"input_ids": ids, "labels": labels}

    return prepare


def causal_preparer(
    tokenizer: Any, length: int | None = None, words: int | None = None
) -> Callable[[list[Any]], dict[str, Tensor]]:
    """Texts with `labels` [batch, token]: of every token the one after it, `IGNORED_LABEL` of the last and of padding.

    A tokenizer without a padding token pads with its last one; padding stands at the end, where no token sees it. The
    tokenizer itself stays as it is.
    """
    if tokenizer.pad_token is None:
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer.pad_token = tokenizer.eos_token
    plain = text_preparer(tokenizer, length, words)

    def prepare(texts: list[Any]) -> dict[str, Tensor]:
        inputs = plain(texts)
        following = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, IGNORED_LABEL)[:, 1:]
        return inputs | {"labels": torch.nn.functional.pad(following, (0, 1), value=IGNORED_LABEL)}

    return prepare


def paired_preparer(tokenizer: Any, start: int, words: int | None = None) -> Callable[[list[Any]], dict[str, Tensor]]:
    """Texts for an encoder, and the same behind the `start` token as `decoder_input_ids`: unlabelled samples."""
    plain = text_preparer(tokenizer, None, words)

    def prepare(texts: list[Any]) -> dict[str, Tensor]:
        inputs = plain(texts)
        behind = torch.nn.functional.pad(inputs["input_ids"][:, :-1], (1, 0), value=start)
        return inputs | {"decoder_input_ids": behind}

    return prepare


def mask_tokens(
    ids: Int[Tensor, "*batch token"], special: Int[Tensor, " kind"], mask: int, words: int, generator: torch.Generator
) -> tuple[Int[Tensor, "*batch token"], Int[Tensor, "*batch token"]]:
    """Ids with `MASK_RATE` of the words hidden, one at least, and labels: the hidden ones, else `IGNORED_LABEL`.

    Of ten hidden words, eight are shown as `mask`, one as any of all `words`, and one as it is (Devlin et al., 2019).
    """
    chance = torch.rand(ids.shape, generator=generator).masked_fill(torch.isin(ids, special), 2.0)
    least = chance.amin(-1, keepdim=True)
    chosen = (chance < MASK_RATE) | ((chance == least) & (least <= 1))
    fate = torch.rand(ids.shape, generator=generator)
    other = torch.randint(words, ids.shape, generator=generator)
    shown = torch.where(fate < 0.8, mask, torch.where(fate < 0.9, other, ids))
    return torch.where(chosen, shown, ids), torch.where(chosen, ids, IGNORED_LABEL)
