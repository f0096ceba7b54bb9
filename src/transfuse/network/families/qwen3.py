"""Qwen3 (Yang et al., 2025), a Llama with norms of queries and keys, and mixtures of experts.

The mixtures are Mixtral (Jiang et al., 2024) and Qwen3-MoE.
"""

from transfuse.network.builder import Builder
from transfuse.network.families import decoder
from transfuse.network.families.llama import attend as llama_attend
from transfuse.network.families.llama import normed_heads, pre_norm, project, transform
from transfuse.network.families.parts import Config, Readable, bias_if, experts
from transfuse.network.space import Space


def attend(s: Builder, config: Config, i: int, block: str, reads: Readable, writes: Space) -> None:
    """Declare attention with norms of queries and keys."""
    bias = bias_if(config.attention_bias)
    project(s, block, reads, normed_heads(s, config, i, block), writes, bias, bias)


def _mixtral_experts(s: Builder, config: Config, i: int, block: str, reads: Readable, writes: Space) -> None:
    experts(s, i, block, reads, writes, config.num_local_experts, config.intermediate_size)


def _qwen3_experts(s: Builder, config: Config, i: int, block: str, reads: Readable, writes: Space) -> None:
    if i in config.mlp_only_layers or (i + 1) % config.decoder_sparse_step:
        transform(s, config, i, block, reads, writes)
    else:
        experts(s, i, block, reads, writes, config.num_experts, config.moe_intermediate_size)


ARCHITECTURES = {
    **decoder.architectures("Qwen3", pre_norm(attend, transform)),
    **decoder.architectures("Mixtral", pre_norm(llama_attend, _mixtral_experts)),
    **decoder.architectures("Qwen3Moe", pre_norm(attend, _qwen3_experts)),
}
