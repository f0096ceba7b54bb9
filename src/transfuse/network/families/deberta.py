"""DeBERTa-v2 and -v3 (He et al., 2021): the blocks of BERT, whose scores also compare contents with distances.

Distances have embeddings. If these go through the projections of the contents, they are in the basis of the stream.
If they have projections of their own, they are a space of their own, which rotates. (Without a norm, any invertible
matrix may act on it, but the projections are balanced by those of the channels, and cannot be balanced on both sides.)
Either way, queries and keys of distances are mapped like those of contents.
"""

from collections.abc import Callable

from transfuse.errors import SpecError
from transfuse.network.builder import Builder
from transfuse.network.families.bert import BlockNames, block
from transfuse.network.families.parts import Config, Readable, token_embedding
from transfuse.network.families.parts_attention import Attention, attention
from transfuse.network.families.parts_heads import linear_head, masked_head, pooler, token_classifiers
from transfuse.network.space import Group, Space
from transfuse.network.spec import Spec
from transfuse.network.token_layout import Tokens

NAMES = BlockNames(
    "attention.self.query_proj",
    "attention.self.key_proj",
    "attention.self.value_proj",
    "attention.output.dense",
    "attention.output.LayerNorm",
)


def masked_language_model(config: Config) -> Spec:
    """DebertaV2ForMaskedLM."""
    if not config.legacy:
        raise SpecError("legacy is false, so the head has no matrix of its own, which is not supported in DeBERTa")
    s, vocabulary, token, x = _encoder(config, "deberta.")
    p = "cls.predictions"
    names = (f"{p}.transform.dense", f"{p}.transform.LayerNorm", f"{p}.decoder")
    masked_head(s, config, x, vocabulary, token, names, output_biases=(f"{p}.bias", f"{p}.decoder.bias"))
    return s.build()


def sequence_classifier(config: Config) -> Spec:
    """DebertaV2ForSequenceClassification."""
    s, _, _, x = _encoder(config, "deberta.", first_token=True)
    pooled = pooler(s, x, "pooler.dense", config.hidden_size, config.pooler_hidden_act)
    linear_head(s, pooled, "classifier", config.num_labels)
    return s.build()


def model(config: Config) -> Spec:
    """DebertaV2Model."""
    return _encoder(config, "")[0].build()


def _encoder(config: Config, p: str, *, first_token: bool = False) -> tuple[Builder, Space, Space, Space]:
    """Declare the encoder. Return the builder, and the spaces of vocabulary, token embeddings and output."""
    s = Builder("deberta-v2")
    s.tokens = Tokens(1)
    width = config.hidden_size
    if getattr(config, "embedding_size", width) != width:
        raise SpecError("embedding_size differs from hidden_size, which is not supported in DeBERTa")
    vocabulary, token = token_embedding(s, f"{p}embeddings.word_embeddings", config, width)
    x = _embeddings(s, config, f"{p}embeddings.", token)
    distances = _distances(s, config, f"{p}encoder.", x)
    embedded = x
    for i in range(config.num_hidden_layers):
        layer = f"{p}encoder.layer.{i}"
        axes = attention(s, i, config.num_attention_heads, width // config.num_attention_heads)
        if distances is not None and not _shares_projections(config):
            _attend_to_distances(s, config, f"{layer}.attention.self", axes, distances)
        last = i == config.num_hidden_layers - 1
        x = block(s, config, layer, i, axes, x, NAMES, first_token=first_token and last)
        if i == 0 and getattr(config, "conv_kernel_size", 0) > 0:
            x = _convolution(s, config, f"{p}encoder.conv", embedded, x)
    return s, vocabulary, token, x


def _embeddings(s: Builder, config: Config, p: str, token: Space) -> Space:
    """Declare what is added to the embeddings of tokens, and the norm behind; return the stream."""
    x = token
    if config.position_biased_input:
        position = s.free("position", token.units)
        rows = s.fixed("position_id", config.max_position_embeddings)
        s.embedding(f"{p}position_embeddings", rows, position)
        x = s.join("embed", position, token)
    if config.type_vocab_size > 0:
        s.embedding(f"{p}token_type_embeddings", s.fixed("type", config.type_vocab_size), token)
    s.post_norm(f"{p}LayerNorm", x)
    return x


def _shares_projections(config: Config) -> bool:
    """Return whether embeddings of distances go through the projections of the contents, or nothing reads them."""
    return getattr(config, "share_att_key", False) or not config.pos_att_type


def _distances(s: Builder, config: Config, p: str, x: Space) -> Readable | None:
    """Declare the embeddings of distances, and return what reads them; None if there are none."""
    has_norm = "layer_norm" in [name.strip() for name in getattr(config, "norm_rel_ebd", "none").lower().split("|")]
    if not config.relative_attention:
        if has_norm:  # nothing reads it
            s.post_norm(f"{p}LayerNorm", x, on_tokens=False)
        return None
    limit = config.max_relative_positions if config.max_relative_positions >= 1 else config.max_position_embeddings
    buckets = getattr(config, "position_buckets", -1)
    s.part = "embeddings"
    rows = s.fixed("distance", 2 * (buckets if buckets > 0 else limit))
    if _shares_projections(config):
        s.table(f"{p}rel_embeddings.weight", (rows,), x)
        if has_norm:
            s.post_norm(f"{p}LayerNorm", x, on_tokens=False)
        return x
    relative = s.free("relative", config.hidden_size, Group.CENTERED if has_norm else Group.ORTHOGONAL)
    s.table(f"{p}rel_embeddings.weight", (rows,), relative)
    return s.norm(f"{p}LayerNorm", relative) if has_norm else relative


def _attend_to_distances(s: Builder, config: Config, p: str, axes: Attention, distances: Readable) -> None:
    s.part = "attention"
    if "c2p" in config.pos_att_type:
        s.linear(f"{p}.pos_key_proj", distances, axes.k)
    if "p2c" in config.pos_att_type:
        s.linear(f"{p}.pos_query_proj", distances, axes.q)


def _convolution(s: Builder, config: Config, p: str, embedded: Space, x: Space) -> Space:
    """Declare the convolution over the embeddings, which is added behind the first block."""
    if getattr(config, "conv_groups", 1) != 1:
        raise SpecError("conv_groups is not 1, which is not supported in DeBERTa")
    s.part = "ffn"
    branch = s.free("convolution", config.hidden_size)
    s.linear(f"{p}.conv", (embedded, s.fixed("conv_tap", config.conv_kernel_size)), branch)
    x = s.join("convolved", x, branch)
    s.post_norm(f"{p}.LayerNorm", x)
    return x


ARCHITECTURES: dict[str, Callable[[Config], Spec]] = {
    "DebertaV2ForMaskedLM": masked_language_model,
    "DebertaV2ForSequenceClassification": sequence_classifier,
    "DebertaV2Model": model,
} | token_classifiers("DebertaV2", _encoder, "deberta.")
