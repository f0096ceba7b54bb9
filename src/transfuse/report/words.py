"""Plain words for the spaces of a network, which a report shows in place of the names in declarations."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transfuse.network.block_numbers import block_number, kind_name

if TYPE_CHECKING:
    from transfuse.report.facts import MatchedSpace

WORDS = {  # the name and the meaning of each kind of space, by the last part of its name in declarations
    "stream": ("residual stream", "the vector of each token that all blocks read and add to"),
    "token": ("token embeddings", "the vector that each token or patch starts with"),
    "patch": ("patch embeddings", "the vector that each patch of an image starts with"),
    "mask": ("mask token", "the vector that each masked patch starts with"),
    "position": ("position embeddings", "the vector that each position starts with"),
    "class_token": ("class token", "the vector that the class token starts with"),
    "cls_token": ("class token", "the vector that the class token starts with"),
    "tokens.cls_token": ("tokens with the class token", "the vectors of all tokens, before positions are added"),
    "distillation_token": ("distillation token", "the vector that the distillation token starts with"),
    "register": ("register tokens", "the vectors that the register tokens start with"),
    "projected": ("projected embeddings", "the embeddings, projected to the width of the blocks"),
    "sound": ("sound channels", "the channels between the convolutions that read the sound"),
    "frame": ("sound frames", "the vector that each frame of the sound starts with"),
    "convolution": ("convolution outputs", "what the convolution adds to the output of the first block"),
    "convolved": ("stream after the convolution", "the residual stream behind the convolution"),
    "relative": ("distance embeddings", "the vector of each distance between two tokens"),
    "probe": ("pooling query", "the vector that the pooling head attends with"),
    "tokens": ("tokens", "the vectors of all tokens, before positions are added"),
    "embed": ("embeddings", "the vector that the first block reads"),
    "attention": ("attention outputs", "what the attention of a block adds to the residual stream"),
    "middle": ("stream after attention", "the residual stream between the two halves of a block"),
    "added": ("stream after attention", "the residual stream behind the attention of a block"),
    "mlp": ("feed-forward outputs", "what the feed-forward layer of a block adds to the residual stream"),
    "out": ("stream after the block", "the residual stream behind a block"),
    "crossed": ("cross-attention outputs", "what the cross-attention of a block adds to the residual stream"),
    "cross": ("stream after cross-attention", "the residual stream behind the cross-attention of a block"),
    "head": ("attention heads", "the heads of an attention layer"),
    "group": ("key-value groups", "the groups of heads that share keys and values"),
    "query": ("query heads", "the heads within a group that shares keys and values"),
    "qk": ("query-key channels", "the channels of a head that queries and keys are compared in"),
    "v": ("value channels", "the channels of a head that values are averaged in"),
    "queries": ("queries", "the queries of all heads of an attention layer"),
    "keys": ("keys", "the keys of all heads of an attention layer"),
    "values": ("values", "the values of all heads of an attention layer"),
    "pos_key_proj": ("keys of distances", "the keys of the distances between tokens, of all heads"),
    "pos_query_proj": ("queries of distances", "the queries of the distances between tokens, of all heads"),
    "qk.shared": ("queries and keys", "the queries and keys of all heads, which have one map"),
    "qk.joint": ("queries beside keys", "the queries and the keys of all heads, side by side"),
    "plane": ("rotary planes", "the pairs of query-key channels that rotary positions turn"),
    "rest": ("channels without positions", "the query-key channels that rotary positions do not turn"),
    "sign": ("query-key signs", "the signs that queries and keys share in each pair of channels"),
    "gain": ("query-key gains", "the gains that can move between the norms of queries and keys"),
    "hidden": ("hidden units", "the units inside a feed-forward layer"),
    "scale": ("scales of units", "the scale that can move between the layers around a unit"),
    "expert": ("experts", "the feed-forward layers that a router chooses from"),
    "pooled": ("pooled units", "the units between the last block and the classifier"),
    "guess": ("prediction units", "the units between the last block and the predicted tokens"),
    "shared": ("shared embedding", "the vector by which images and texts are compared"),
}
PLACES = {
    "vision": "image encoder",
    "vision_model": "image encoder",
    "text": "text encoder",
    "text_model": "text encoder",
    "cross": "cross-attention",
    "EncDecAttention": "cross-attention",
    "encoder_attn": "cross-attention",
    "head": "pooling head",
}
# Parts of the names of modules that tell layers apart:
MODULE_PLACES = ("vision_model", "text_model", "encoder", "decoder", "EncDecAttention", "encoder_attn", "head")
PROJECTION = re.compile(r"(?i)attn|attention")  # a part of the names of modules with the layers below
DISTANCES = ("pos_key_proj", "pos_query_proj")  # layers of DeBERTa
QUERIES, KEYS, VALUES = "queries", "keys", "values"
LAYERS = {"q": QUERIES, "k": KEYS, "v": VALUES, "[0]": QUERIES, "[1]": KEYS, "[2]": VALUES}  # by first or last letters


@dataclass(frozen=True)
class KindInWords:
    """A kind of space on the page: its name, its meaning ("" if unknown), how many there are, and their units."""

    name: str
    meaning: str
    count: int
    units: int


def kind_words(kind: str) -> str:
    """Return plain words for a kind of space, such as "attention heads" or "hidden units (decoder)"."""
    places, key = _places_and_key(kind)
    name, _ = WORDS.get(key, (key.replace("_", " "), ""))
    number = kind.rpartition(".")[2]
    if number.isdigit():
        name = f"{name} {int(number) + 1}"
    where = [PLACES.get(place, place.replace("_", " ")) for place in places]
    return f"{name} ({', '.join(where)})" if where else name


def space_words(name: str) -> str:
    """Return plain words for a space, with its block: "block 0: attention heads"."""
    block = block_number(name)
    words = kind_words(kind_name(name))
    return words if block is None else f"block {block}: {words}"


def kinds_in_words(spaces: Iterable[MatchedSpace]) -> list[KindInWords]:
    """Return the kinds of the spaces of the first source, in their order."""
    kinds: dict[str, list[MatchedSpace]] = {}
    for space in spaces:
        if space.model == 1:
            kinds.setdefault(space.kind, []).append(space)
    return [
        KindInWords(
            kind_words(kind),
            WORDS.get(_places_and_key(kind)[1], ("", ""))[1],
            len(members),
            int(members[0].diagnostics["target_units"]),
        )
        for kind, members in kinds.items()
    ]


def _places_and_key(kind: str) -> tuple[list[str], str]:
    """Return the parts of the network that a kind of space belongs to, and its key in `WORDS`.

    The flow of transport maps names the spaces of queries, keys and values by their layers.
    """
    parts = kind.split(".")
    if len(parts) > 1 and parts[-1].isdigit():  # the number of a second or third residual stream
        parts = parts[:-1]
    *modules, last = parts
    if last in DISTANCES:
        return [], last
    layer = LAYERS.get(last[-3:], LAYERS.get(last[0].lower())) if last else None
    if layer and any(PROJECTION.search(part) for part in (*modules, last)):
        modules = modules[1:] if modules[:1] == ["model"] else modules
        return [part for part in dict.fromkeys((*modules[:1], *modules[-1:])) if part in MODULE_PLACES], layer
    pair = ".".join(parts[-2:])
    return (parts[:-2], pair) if pair in WORDS else (modules, last)
