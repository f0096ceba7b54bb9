"""GTE (Zhang et al., 2024) and Nomic BERT (Nussbaum et al., 2024): post-norm encoders with rotary positions.

Their feed-forward networks are gated. GTE has biases, except in front of its hidden units, and Nomic BERT has none.
"""

from collections.abc import Callable

from transfuse.network.builder import Builder
from transfuse.network.families.parts import Config, bias_if, gated_units
from transfuse.network.families.parts_attention import grouped_attention, queries_keys_values
from transfuse.network.families.parts_heads import linear_head, masked_head, pooler, token_classifiers
from transfuse.network.sizes import head_size
from transfuse.network.space import Space
from transfuse.network.spec import Spec
from transfuse.network.token_layout import Tokens


def gte_masked_language_model(config: Config) -> Spec:
    """GteForMaskedLM."""
    s, vocabulary, token, x = _encoder(config, "gte.")
    names = ("lm_head.dense", "lm_head.layer_norm", "lm_head.decoder")
    masked_head(s, config, x, vocabulary, token, names, ("bias", "bias", "bias"))
    return s.build()


def nomic_masked_language_model(config: Config) -> Spec:
    """NomicBertForMaskedLM."""
    s, vocabulary, token, x = _encoder(config, "nomic_bert.")
    head = "cls.predictions"
    names = (f"{head}.transform.dense", f"{head}.transform.layer_norm", f"{head}.decoder")
    masked_head(s, config, x, vocabulary, token, names, output_biases=(f"{head}.bias", f"{head}.decoder.bias"))
    return s.build()


def sequence_classifier(config: Config) -> Spec:
    """GteForSequenceClassification, NomicBertForSequenceClassification."""
    s, *_, x = _encoder(config, f"{config.model_type}.", first_token=True)
    pooled = pooler(s, x, f"{config.model_type}.pooler.dense", config.hidden_size)
    linear_head(s, pooled, "classifier", config.num_labels)
    return s.build()


def model(config: Config) -> Spec:
    """GteModel, NomicBertModel."""
    return _encoder(config, "")[0].build()


def _encoder(config: Config, p: str, *, first_token: bool = False) -> tuple[Builder, Space, Space, Space]:
    """Declare the encoder. Return the builder, and the spaces of vocabulary, token embeddings and output."""
    s = Builder(config.model_type)
    s.tokens = Tokens(1)
    s.part = "embeddings"
    vocabulary = s.fixed("vocabulary", config.vocab_size)
    token = s.free("token", config.hidden_size)
    s.embedding(f"{p}embeddings.word_embeddings", vocabulary, token)
    if config.type_vocab_size:
        s.embedding(f"{p}embeddings.token_type_embeddings", s.fixed("type", config.type_vocab_size), token)
    s.post_norm(f"{p}embeddings.LayerNorm", token)
    x = token
    for i in range(config.num_hidden_layers):
        last = i == config.num_hidden_layers - 1
        x = _block(s, config, f"{p}layers.{i}", i, x, first_token=first_token and last)
    return s, vocabulary, token, x


def _block(s: Builder, config: Config, p: str, i: int, x: Space, *, first_token: bool) -> Space:
    """Declare attention and a gated network, each with a norm behind its residual addition."""
    heads = config.num_attention_heads
    axes = grouped_attention(s, i, heads, heads, head_size(config))
    attended = s.free(f"{i}.attention", config.hidden_size)
    mlp = s.free(f"{i}.mlp", config.hidden_size)
    bias = bias_if(config.model_type == "gte")

    s.part = "attention"
    queries_keys_values(s, f"{p}.self_attn", x, axes, bias)
    s.prefix_only = first_token
    s.linear(f"{p}.self_attn.o_proj", axes.context, attended, bias)
    x = s.join(f"{i}.middle", x, attended)
    s.post_norm(f"{p}.post_attention_layernorm", x)

    s.part = "ffn"
    gate, up = gated_units(s, i, config.intermediate_size)
    s.linear(f"{p}.mlp.gate_proj", x, gate, bias=None)
    s.linear(f"{p}.mlp.up_proj", x, up, bias=None)
    s.linear(f"{p}.mlp.down_proj", up, mlp, bias)
    x = s.join(f"{i}.out", x, mlp)
    s.post_norm(f"{p}.post_mlp_layernorm", x)
    return x


ARCHITECTURES: dict[str, Callable[[Config], Spec]] = {
    "GteForMaskedLM": gte_masked_language_model,
    "NomicBertForMaskedLM": nomic_masked_language_model,
}
for stem, prefix in (("Gte", "gte."), ("NomicBert", "nomic_bert.")):
    ARCHITECTURES |= {
        f"{stem}ForSequenceClassification": sequence_classifier,
        f"{stem}ForTokenClassification": token_classifiers(stem, _encoder, prefix)[f"{stem}ForTokenClassification"],
        f"{stem}Model": model,
    }
