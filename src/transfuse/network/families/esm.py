"""ESM-1b (Rives et al., 2021) and ESM-2 (Lin et al., 2023): pre-norm encoders of proteins with BERT's names.

ESM-2 has rotary positions, and ESM-1b has learned ones. A regression predicts contacts from the attention of all heads;
no output reads it, but its weights have to follow their heads.
"""

from collections.abc import Callable
from functools import reduce
from operator import add

from transfuse.errors import SpecError
from transfuse.network.builder import Builder
from transfuse.network.families.parts import Config, Readable, feed_forward, token_embedding
from transfuse.network.families.parts_attention import Attention, attention, grouped_attention
from transfuse.network.families.parts_heads import linear_head, masked_head, pooler, token_classifiers
from transfuse.network.space import Axis, Space
from transfuse.network.spec import Spec
from transfuse.network.token_layout import Tokens

Encoder = tuple[Builder, Space, Space, Readable]  # builder, vocabulary, token embeddings, output


def masked_language_model(config: Config) -> Spec:
    """EsmForMaskedLM."""
    s, vocabulary, token, x = _encoder(config, "esm.")
    names = ("lm_head.dense", "lm_head.layer_norm", "lm_head.decoder")
    masked_head(s, config, x, vocabulary, token, names, output_biases=("lm_head.bias",))
    return s.build()


def sequence_classifier(config: Config) -> Spec:
    """EsmForSequenceClassification."""
    s, *_, x = _encoder(config, "esm.")
    linear_head(s, pooler(s, x, "classifier.dense", config.hidden_size), "classifier.out_proj", config.num_labels)
    return s.build()


def model(config: Config) -> Spec:
    """EsmModel."""
    s, *_, x = _encoder(config, "")
    s.mark_as_output("encoder.emb_layer_norm_after")
    pooler(s, x, "pooler.dense", config.hidden_size)
    return s.build()


def _encoder(config: Config, p: str) -> Encoder:
    """Declare everything from tokens to the last norm."""
    if config.is_folding_model:
        raise SpecError("esm: models whose config.json has is_folding_model: true are not supported")
    s = Builder("esm")
    s.tokens = Tokens(1)
    vocabulary, token = token_embedding(s, f"{p}embeddings.word_embeddings", config, config.hidden_size)
    x = token
    if config.position_embedding_type == "rotary":  # a buffer that is saved, unlike that of other families
        frequencies = config.hidden_size // config.num_attention_heads // 2
        s.parameter(f"{p}rotary_embeddings.inv_freq", s.fixed("frequency", frequencies))
    else:
        position = s.free("position", config.hidden_size)
        positions = s.fixed("position_id", config.max_position_embeddings)
        s.embedding(f"{p}embeddings.position_embeddings", positions, position)
        x = s.join("embed", position, token)
    if config.emb_layer_norm_before:
        s.post_norm(f"{p}embeddings.layer_norm", x)
    heads: list[Axis] = []
    for i in range(config.num_hidden_layers):
        axes = _heads(s, config, i)
        heads.append(axes.head)
        x = _block(s, config, f"{p}encoder.layer.{i}", i, axes, x)
    s.part = "attention"
    s.linear(f"{p}contact_head.regression", reduce(add, heads), s.fixed("contact", 1), observable=False)
    return s, vocabulary, token, s.norm(f"{p}encoder.emb_layer_norm_after", x)


def _heads(s: Builder, config: Config, i: int) -> Attention:
    heads = config.num_attention_heads
    size = config.hidden_size // heads
    if config.position_embedding_type == "rotary":
        return grouped_attention(s, i, heads, heads, size)
    return attention(s, i, heads, size)


def _block(s: Builder, config: Config, p: str, i: int, axes: Attention, x: Space) -> Space:
    """Declare attention and a feed-forward network, each behind a norm, and return the stream behind them."""
    attended = s.free(f"{i}.attention", config.hidden_size)
    mlp = s.free(f"{i}.mlp", config.hidden_size)
    s.part = "attention"
    h = s.norm(f"{p}.attention.LayerNorm", x)
    for name, axis in (("query", axes.q), ("key", axes.k), ("value", axes.v)):
        s.linear(f"{p}.attention.self.{name}", h, axis)
    s.linear(f"{p}.attention.output.dense", axes.context, attended)
    x = s.join(f"{i}.middle", x, attended)
    s.part = "ffn"
    names = (f"{p}.intermediate.dense", f"{p}.output.dense")
    feed_forward(s, i, s.norm(f"{p}.LayerNorm", x), config.intermediate_size, mlp, names)
    return s.join(f"{i}.out", x, mlp)


ARCHITECTURES: dict[str, Callable[[Config], Spec]] = {
    "EsmForMaskedLM": masked_language_model,
    "EsmForSequenceClassification": sequence_classifier,
    "EsmForTokenClassification": token_classifiers("Esm", _encoder, "esm.")["EsmForTokenClassification"],
    "EsmModel": model,
}
