"""ModernBERT (Warner et al., 2024): pre-norm without biases, rotary positions, GeGLU, fused projections.

The stream begins with a norm of the token embeddings, whose gain allows only permutations.
"""

from collections.abc import Callable

from transfuse.network.builder import Builder
from transfuse.network.families.parts import Config, Readable, Trunk, bias_if, gated_units, token_embedding
from transfuse.network.families.parts_attention import grouped_attention
from transfuse.network.families.parts_heads import linear_head, masked_head, normed_output
from transfuse.network.space import Space
from transfuse.network.spec import Spec
from transfuse.network.token_layout import Tokens


def masked_language_model(config: Config) -> Spec:
    """ModernBertForMaskedLM."""
    s = Builder("modernbert")
    trunk = _trunk(s, config, "model.")
    biases = (bias_if(config.classifier_bias), bias_if(config.norm_bias), bias_if(config.decoder_bias))
    names = ("head.dense", "head.norm", "decoder")
    masked_head(s, config, normed_output(s, trunk), trunk.vocabulary, trunk.token, names, biases)
    return s.build()


def classifier(config: Config) -> Spec:
    """ModernBertForSequenceClassification, ...ForTokenClassification, ...ForQuestionAnswering."""
    s = Builder("modernbert")
    trunk = _trunk(s, config, "model.")
    s.part = "head"
    guess = s.free("guess", config.hidden_size)
    s.linear("head.dense", normed_output(s, trunk), guess, bias_if(config.classifier_bias))
    s.post_norm("head.norm", guess, bias_if(config.norm_bias))
    linear_head(s, guess, "classifier", config.num_labels)
    return s.build()


def model(config: Config) -> Spec:
    """ModernBertModel."""
    s = Builder("modernbert")
    normed_output(s, _trunk(s, config, ""))
    return s.build()


ARCHITECTURES: dict[str, Callable[[Config], Spec]] = {
    "ModernBertForMaskedLM": masked_language_model,
    "ModernBertForSequenceClassification": classifier,
    "ModernBertForTokenClassification": classifier,
    "ModernBertForQuestionAnswering": classifier,
    "ModernBertModel": model,
}


def _trunk(s: Builder, config: Config, p: str) -> Trunk:
    width = config.hidden_size
    heads = config.num_attention_heads
    bias, mlp_bias, norm_bias = (bias_if(has) for has in (config.attention_bias, config.mlp_bias, config.norm_bias))
    s.tokens = Tokens(1)
    vocabulary, token = token_embedding(s, f"{p}embeddings.tok_embeddings", config, width)
    s.post_norm(f"{p}embeddings.norm", token, norm_bias)
    x: Space = token
    for i in range(config.num_hidden_layers):
        block = f"{p}layers.{i}"
        axes = grouped_attention(s, i, heads, heads, width // heads)
        attended = s.free(f"{i}.attention", width)
        mlp = s.free(f"{i}.mlp", width)

        s.part = "attention"
        h: Readable = s.norm(f"{block}.attn_norm", x, norm_bias) if i else x  # the embeddings are normalized already
        s.linear(f"{block}.attn.Wqkv", h, axes.q + axes.k + axes.v, bias)
        s.linear(f"{block}.attn.Wo", axes.context, attended, bias)
        x = s.join(f"{i}.middle", x, attended)

        s.part = "ffn"
        gate, up = gated_units(s, i, config.intermediate_size)
        s.linear(f"{block}.mlp.Wi", s.norm(f"{block}.mlp_norm", x, norm_bias), gate + up, mlp_bias)
        s.linear(f"{block}.mlp.Wo", up, mlp, mlp_bias)
        x = s.join(f"{i}.out", x, mlp)
    return Trunk(vocabulary, token, x, lambda axis: s.norm(f"{p}final_norm", axis, norm_bias))
