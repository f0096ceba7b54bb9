"""The stacks of BART and its kind: blocks of attention, in the decoder also to the encoder, and a feed-forward network.

BART and Marian have a norm behind each residual addition, the others in front of each branch.
"""

from transfuse.network.builder import Builder
from transfuse.network.families.parts import Config, Readable, bias_if, feed_forward
from transfuse.network.families.parts_attention import attention
from transfuse.network.space import Space

PRE_NORM = ("mbart", "pegasus", "m2m_100", "whisper")
FIXED = ("marian", "m2m_100")


def stream(s: Builder, name: str, width: int) -> Space:
    """Return a space of what is added to the stream, whose basis is fixed in Marian and M2M-100."""
    return (s.fixed if s.family in FIXED else s.free)(name, width)


def stack_blocks(s: Builder, config: Config, p: str, name: str, x: Space, memory: Readable | None = None) -> Space:
    """Declare blocks of self-attention, of attention to `memory` if given, and of a feed-forward network.

    Args:
        p: the name of the stack.
        name: `encoder` or `decoder`, whose sizes are read.
    """
    heads, layers, units = (getattr(config, f"{name}_{size}") for size in ("attention_heads", "layers", "ffn_dim"))
    for i in range(layers):
        block = f"{p}.layers.{i}"
        label = f"{name}.{i}"
        s.part = "attention"
        x = _attend(s, f"{block}.self_attn", f"{label}.self", heads, x)
        if memory is not None:
            x = _attend(s, f"{block}.encoder_attn", f"{label}.cross", heads, x, memory)
        s.part = "ffn"
        mlp = stream(s, f"{label}.mlp", config.d_model)
        h = _read(s, f"{block}.final_layer_norm", x)
        feed_forward(s, label, h, units, mlp, (f"{block}.fc1", f"{block}.fc2"))
        x = _add(s, f"{block}.final_layer_norm", f"{label}.out", x, mlp)
    return x


def _attend(s: Builder, p: str, label: str, heads: int, x: Space, memory: Readable | None = None) -> Space:
    """Declare attention of the stream to itself, or to `memory`, and return the stream behind it."""
    axes = attention(s, label, heads, x.units // heads)
    attended = stream(s, f"{label}.attention", x.units)
    h = _read(s, f"{p}_layer_norm", x)
    s.linear(f"{p}.q_proj", h, axes.q)
    s.linear(f"{p}.k_proj", memory or h, axes.k, bias_if(s.family != "whisper"))
    s.linear(f"{p}.v_proj", memory or h, axes.v)
    s.linear(f"{p}.out_proj", axes.context, attended)
    return _add(s, f"{p}_layer_norm", f"{label}.added", x, attended)


def _read(s: Builder, norm: str, x: Space) -> Readable:
    """Return what a branch reads: the output of a norm, or the stream."""
    return s.norm(norm, x) if s.family in PRE_NORM else x


def _add(s: Builder, norm: str, name: str, x: Space, branch: Space) -> Space:
    """Declare a residual addition, and the norm behind it if no norm is in front of the branch."""
    x = s.join(name, x, branch)
    if s.family not in PRE_NORM:
        s.post_norm(norm, x)
    return x
