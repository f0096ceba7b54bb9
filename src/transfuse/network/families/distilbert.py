"""DistilBERT (Sanh et al., 2019): the blocks of BERT under other names, without token types and pooler."""

from collections.abc import Callable

from transfuse.network.builder import Builder
from transfuse.network.families.parts import Config, feed_forward, token_embedding
from transfuse.network.families.parts_attention import attention
from transfuse.network.families.parts_heads import masked_head, token_classifiers
from transfuse.network.space import Group, Space
from transfuse.network.spec import Spec
from transfuse.network.token_layout import Tokens


def masked_language_model(config: Config) -> Spec:
    """DistilBertForMaskedLM."""
    s, vocabulary, token, x = _encoder(config, "distilbert.")
    names = ("vocab_transform", "vocab_layer_norm", "vocab_projector")
    masked_head(s, config, x, vocabulary, token, names, ("bias", "bias", "bias"))
    return s.build()


def sequence_classifier(config: Config) -> Spec:
    """DistilBertForSequenceClassification: units in front of the head may be scaled, since they go through a ReLU."""
    s, *_, x = _encoder(config, "distilbert.")
    pooled = s.free("pooled", config.dim)
    scaled = pooled * s.free("pooled.scale", 1, Group.POSITIVE, within=pooled)
    s.part = "head"
    s.linear("pre_classifier", x, scaled)
    s.linear("classifier", scaled, s.fixed("class", config.num_labels))
    return s.build()


def model(config: Config) -> Spec:
    """DistilBertModel."""
    return _encoder(config, "")[0].build()


def _encoder(config: Config, p: str) -> tuple[Builder, Space, Space, Space]:
    """Declare the encoder. Return the builder, and the spaces of vocabulary, token embeddings and output."""
    s = Builder("distilbert")
    width = config.dim
    heads = config.n_heads
    s.tokens = Tokens(1)
    vocabulary, token = token_embedding(s, f"{p}embeddings.word_embeddings", config, width)
    position = s.free("position", width)
    s.embedding(f"{p}embeddings.position_embeddings", s.fixed("position_id", config.max_position_embeddings), position)
    x = s.join("embed", position, token)
    s.post_norm(f"{p}embeddings.LayerNorm", x)
    for i in range(config.n_layers):
        block = f"{p}transformer.layer.{i}"
        axes = attention(s, i, heads, width // heads)
        attended = s.free(f"{i}.attention", width)
        mlp = s.free(f"{i}.mlp", width)
        s.part = "attention"
        s.linear(f"{block}.attention.q_lin", x, axes.q)
        s.linear(f"{block}.attention.k_lin", x, axes.k)
        s.linear(f"{block}.attention.v_lin", x, axes.v)
        s.linear(f"{block}.attention.out_lin", axes.context, attended)
        x = s.join(f"{i}.middle", x, attended)
        s.post_norm(f"{block}.sa_layer_norm", x)
        s.part = "ffn"
        feed_forward(s, i, x, config.hidden_dim, mlp, (f"{block}.ffn.lin1", f"{block}.ffn.lin2"))
        x = s.join(f"{i}.out", x, mlp)
        s.post_norm(f"{block}.output_layer_norm", x)
    return s, vocabulary, token, x


ARCHITECTURES: dict[str, Callable[[Config], Spec]] = {
    "DistilBertForMaskedLM": masked_language_model,
    "DistilBertForSequenceClassification": sequence_classifier,
    "DistilBertModel": model,
} | token_classifiers("DistilBert", _encoder, "distilbert.")
