"""ALBERT (Lan et al., 2020): blocks that run several times, and embeddings that are narrower than the stream.

A block that runs again reads what it has written, so all blocks share one basis of the stream. As in ELECTRA, narrow
embeddings are a stream of their own, which rotates unless an output matrix is tied to it.
"""

from collections.abc import Callable

from transfuse.network.builder import Builder
from transfuse.network.families.bert import embeddings
from transfuse.network.families.parts import Config
from transfuse.network.families.parts_attention import attention
from transfuse.network.families.parts_heads import linear_head, masked_head, pooler, token_classifiers
from transfuse.network.space import Space
from transfuse.network.spec import Spec


def masked_language_model(config: Config) -> Spec:
    """AlbertForMaskedLM."""
    s, vocabulary, token, x = _encoder(config, "albert.")
    names = ("predictions.dense", "predictions.LayerNorm", "predictions.decoder")
    biases = ("predictions.bias", "predictions.decoder.bias")
    masked_head(s, config, x, vocabulary, token, names, output_biases=biases)
    return s.build()


def sequence_classifier(config: Config) -> Spec:
    """AlbertForSequenceClassification."""
    s, _, _, x = _encoder(config, "albert.")
    linear_head(s, pooler(s, x, "albert.pooler", config.hidden_size), "classifier", config.num_labels)
    return s.build()


def model(config: Config) -> Spec:
    """AlbertModel."""
    s, _, _, x = _encoder(config, "")
    pooler(s, x, "pooler", config.hidden_size)
    return s.build()


def _encoder(config: Config, p: str) -> tuple[Builder, Space, Space, Space]:
    """Declare the encoder. Return the builder, and the spaces of vocabulary, token embeddings and output."""
    s = Builder("albert")
    vocabulary = s.fixed("vocabulary", config.vocab_size)
    token = s.free("token", config.embedding_size)
    h = s.norm(f"{p}embeddings.LayerNorm", embeddings(s, config, p, vocabulary, token))
    x = s.free("projected", config.hidden_size)
    s.linear(f"{p}encoder.embedding_hidden_mapping_in", h, x)
    for group in range(config.num_hidden_groups):
        for layer in range(config.inner_group_num):
            block = f"{p}encoder.albert_layer_groups.{group}.albert_layers.{layer}"
            _block(s, config, block, f"{group}.{layer}", x)
    return s, vocabulary, token, x


def _block(s: Builder, config: Config, p: str, label: str, x: Space) -> None:
    """Declare a block that adds to the stream, in whose basis it reads and writes each time that it runs."""
    once = config.num_hidden_layers == config.num_hidden_groups
    axes = attention(s, label, config.num_attention_heads, config.hidden_size // config.num_attention_heads)
    hidden = s.free(f"{label}.hidden", config.intermediate_size)
    s.part = "attention"
    s.linear(f"{p}.attention.query", x, axes.q, observable=once)
    s.linear(f"{p}.attention.key", x, axes.k, observable=once)
    s.linear(f"{p}.attention.value", x, axes.v, observable=once)
    s.linear(f"{p}.attention.dense", axes.context, x, observable=once)
    s.post_norm(f"{p}.attention.LayerNorm", x)
    s.part = "ffn"
    s.linear(f"{p}.ffn", x, hidden, observable=once)
    s.linear(f"{p}.ffn_output", hidden, x, observable=once)
    s.post_norm(f"{p}.full_layer_layer_norm", x)


ARCHITECTURES: dict[str, Callable[[Config], Spec]] = {
    "AlbertForMaskedLM": masked_language_model,
    "AlbertForSequenceClassification": sequence_classifier,
    "AlbertModel": model,
} | token_classifiers("Albert", _encoder, "albert.")
