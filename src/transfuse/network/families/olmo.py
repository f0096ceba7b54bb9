"""OLMo (Groeneveld et al., 2024) and OLMoE (Muennighoff et al., 2024); OLMo-2 is in `gemma`.

The LayerNorms of OLMo have no parameters, so its stream rotates even if the head is tied. OLMoE has norms of queries
and keys, and experts. Both may clip queries, keys and values.
"""

from transfuse.network.builder import Builder
from transfuse.network.families import decoder
from transfuse.network.families.llama import attend, head_sizes, normed_heads, pre_norm, project, transform
from transfuse.network.families.parts import Config, Readable, bias_if, experts
from transfuse.network.families.parts_attention import clipped_attention
from transfuse.network.space import Space


def _attend(s: Builder, config: Config, i: int, block: str, reads: Readable, writes: Space) -> None:
    if config.clip_qkv is None:
        attend(s, config, i, block, reads, writes)
        return
    axes = clipped_attention(s, i, *head_sizes(config))
    bias = bias_if(config.attention_bias)
    project(s, block, reads, axes, writes, bias, bias)


def _normed_attend(s: Builder, config: Config, i: int, block: str, reads: Readable, writes: Space) -> None:
    axes = normed_heads(s, config, i, block, across_heads=True, clipped=config.clip_qkv is not None)
    bias = bias_if(config.attention_bias)
    project(s, block, reads, axes, writes, bias, bias)


def _experts(s: Builder, config: Config, i: int, block: str, reads: Readable, writes: Space) -> None:
    experts(s, i, block, reads, writes, config.num_experts, config.intermediate_size)


ARCHITECTURES = {
    **decoder.architectures("Olmo", pre_norm(_attend, transform, Builder.plain_norm)),
    **decoder.architectures("Olmoe", pre_norm(_normed_attend, _experts)),
}
