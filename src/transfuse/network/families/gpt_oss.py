"""gpt-oss (OpenAI, 2025): a Llama with biases, attention sinks and experts.

A sink is a logit of a query head that takes attention away from all tokens, so that it belongs to the head. Both
branches of an expert are clamped, and 1 is added to one of them. Therefore, hidden units cannot be scaled.
"""

from transfuse.network.builder import Builder
from transfuse.network.families import decoder
from transfuse.network.families.llama import head_sizes, pre_norm, project
from transfuse.network.families.parts import Config, Readable, bias_if
from transfuse.network.families.parts_attention import grouped_attention
from transfuse.network.space import Space


def _attend(s: Builder, config: Config, i: int, block: str, reads: Readable, writes: Space) -> None:
    axes = grouped_attention(s, i, *head_sizes(config))
    bias = bias_if(config.attention_bias)
    project(s, block, reads, axes, writes, bias, bias)
    s.parameter(f"{block}.self_attn.sinks", axes.head)


def _experts(s: Builder, config: Config, i: int, block: str, reads: Readable, writes: Space) -> None:
    """Declare experts, in whose first matrix the columns of gate and up alternate."""
    expert = s.free(f"{i}.expert", config.num_local_experts)
    hidden = s.free(f"{i}.hidden", config.intermediate_size, within=expert)
    branches = s.fixed("gate", 1) + s.fixed("up", 1)
    s.linear(f"{block}.mlp.router", reads, expert)
    for name, source, target in (("gate_up_proj", reads, hidden * branches), ("down_proj", hidden, writes)):
        s.linear(
            f"{block}.mlp.experts",
            source,
            target,
            f"{name}_bias",
            weight=name,
            transposed=True,
            stacked=expert,
        )


ARCHITECTURES = decoder.architectures("GptOss", pre_norm(_attend, _experts))
