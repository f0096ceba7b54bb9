"""Gemma 2 and 3 (Gemma Team, 2024, 2025) and OLMo-2 and 3 (OLMo Team, 2024, 2025): norms at the end of each branch.

The gain of such a norm scales the output of a branch and cannot be folded, so that units of the stream may be permuted
and change sign, but not rotate. Gemma stores gains as g - 1 and also has norms in front of each branch. OLMo-2 reads
the stream without a norm.
"""

from collections.abc import Callable
from functools import partial

from transfuse.network.builder import Builder
from transfuse.network.families import decoder
from transfuse.network.families.llama import normed_heads, project, rotary_heads, transform
from transfuse.network.families.parts import Config, Trunk, bias_if, token_embedding
from transfuse.network.families.parts_attention import Attention

Queries = Callable[[Builder, Config, int, str], Attention]


def gemma(queries: Queries) -> decoder.MakeTrunk:
    """Return a trunk with an RMSNorm at both ends of every branch."""

    def trunk(s: Builder, config: Config, p: str) -> Trunk:
        vocabulary, token = token_embedding(s, f"{p}embed_tokens", config, config.hidden_size, scaled=True)
        x = token
        bias = bias_if(config.attention_bias)
        for i in range(config.num_hidden_layers):
            block = f"{p}layers.{i}"
            attended = s.free(f"{i}.attention", config.hidden_size)
            mlp = s.free(f"{i}.mlp", config.hidden_size)
            s.part = "attention"
            h = s.rms_norm(f"{block}.input_layernorm", x, offset=1.0)
            project(s, block, h, queries(s, config, i, block), attended, bias, bias)
            s.post_rms_norm(f"{block}.post_attention_layernorm", attended, offset=1.0)
            x = s.join(f"{i}.middle", x, attended)
            s.part = "ffn"
            h = s.rms_norm(f"{block}.pre_feedforward_layernorm", x, offset=1.0)
            transform(s, config, i, block, h, mlp)
            s.post_rms_norm(f"{block}.post_feedforward_layernorm", mlp, offset=1.0)
            x = s.join(f"{i}.out", x, mlp)
        return Trunk(vocabulary, token, x, lambda axis: s.rms_norm(f"{p}norm", axis, offset=1.0))

    return trunk


def olmo2(s: Builder, config: Config, p: str) -> Trunk:
    """Declare a trunk with an RMSNorm at the end of every branch."""
    vocabulary, token = token_embedding(s, f"{p}embed_tokens", config, config.hidden_size)
    x = token
    bias = bias_if(config.attention_bias)
    for i in range(config.num_hidden_layers):
        block = f"{p}layers.{i}"
        attended = s.free(f"{i}.attention", config.hidden_size)
        mlp = s.free(f"{i}.mlp", config.hidden_size)
        s.part = "attention"
        project(s, block, x, normed_heads(s, config, i, block, across_heads=True), attended, bias, bias)
        s.post_rms_norm(f"{block}.post_attention_layernorm", attended)
        x = s.join(f"{i}.middle", x, attended)
        s.part = "ffn"
        transform(s, config, i, block, x, mlp)
        s.post_rms_norm(f"{block}.post_feedforward_layernorm", mlp)
        x = s.join(f"{i}.out", x, mlp)
    return Trunk(vocabulary, token, x, lambda axis: s.rms_norm(f"{p}norm", axis))


_gemma3_trunk = gemma(partial(normed_heads, offset=1.0))
_gemma3 = decoder.architectures("Gemma3", _gemma3_trunk) | decoder.architectures("Gemma3Text", _gemma3_trunk)
ARCHITECTURES = {
    **decoder.architectures("Gemma2", gemma(lambda s, config, i, block: rotary_heads(s, config, i))),
    **{name: _gemma3[name] for name in ("Gemma3ForCausalLM", "Gemma3TextForSequenceClassification", "Gemma3TextModel")},
    **decoder.architectures("Olmo2", olmo2),
    **decoder.architectures("Olmo3", olmo2),
}
