"""Whisper (Radford et al., 2023): an encoder of sound, with convolutions at its start, and a decoder of text.

The second convolution writes the stream of the encoder through a GELU, so that this stream is only permuted. The
positions of the encoder are sinusoids, but they are stored like learned ones, and permuted with the stream.
"""

from transfuse.network.builder import Builder, Normed
from transfuse.network.families.parts import Config, Readable, Trunk, feed_forward
from transfuse.network.families.parts_attention import attention
from transfuse.network.families.parts_heads import language_head, normed_output
from transfuse.network.operations import Tokens
from transfuse.network.space import Space
from transfuse.network.spec import Spec


def conditional_generation(config: Config) -> Spec:
    """WhisperForConditionalGeneration."""
    s = Builder("whisper")
    language_head(s, config, _both(s, config, "model."), "proj_out")
    return s.build()


def model(config: Config) -> Spec:
    """WhisperModel: the outputs of both stacks are outputs of the network."""
    s = Builder("whisper")
    normed_output(s, _both(s, config, ""))
    s.mark_as_output("encoder.layer_norm")
    return s.build()


ARCHITECTURES = {"WhisperForConditionalGeneration": conditional_generation, "WhisperModel": model}


def _both(s: Builder, config: Config, p: str) -> Trunk:
    memory = _encoder(s, config, f"{p}encoder")
    width = config.d_model
    s.part = "embeddings"
    vocabulary = s.fixed("vocabulary", config.vocab_size)
    token, position = s.free("token", width), s.free("decoder.position", width)
    s.embedding(f"{p}decoder.embed_tokens", vocabulary, token)
    s.embedding(f"{p}decoder.embed_positions", s.fixed("position_id", config.max_target_positions), position)
    x = s.join("decoder.embed", token, position)
    x = _blocks(s, config, f"{p}decoder", "decoder", x, memory)
    return Trunk(vocabulary, token, x, lambda axis: s.norm(f"{p}decoder.layer_norm", axis))


def _encoder(s: Builder, config: Config, p: str) -> Normed:
    width = config.d_model
    s.tokens = Tokens(0)
    s.part = "embeddings"
    tap = s.fixed("tap", 3)
    sound, position = s.free("sound", width), s.free("encoder.position", width)
    frame = s.free("frame", width)
    s.linear(f"{p}.conv1", (s.fixed("mel", config.num_mel_bins), tap), sound)
    s.linear(f"{p}.conv2", (sound, tap), frame, activated=True)
    s.embedding(f"{p}.embed_positions", s.fixed("frame_id", config.max_source_positions), position)
    x = _blocks(s, config, p, "encoder", s.join("encoder.embed", frame, position))
    return s.norm(f"{p}.layer_norm", x)


def _blocks(s: Builder, config: Config, p: str, name: str, x: Space, memory: Readable | None = None) -> Space:
    """Declare blocks of self-attention, of attention to `memory` if given, and of a feed-forward network."""
    heads, layers, units = (getattr(config, f"{name}_{size}") for size in ("attention_heads", "layers", "ffn_dim"))
    for i in range(layers):
        block = f"{p}.layers.{i}"
        label = f"{name}.{i}"
        s.part = "attention"
        x = _attend(s, f"{block}.self_attn", f"{label}.self", heads, x)
        if memory is not None:
            x = _attend(s, f"{block}.encoder_attn", f"{label}.cross", heads, x, memory)
        s.part = "ffn"
        mlp = s.free(f"{label}.mlp", config.d_model)
        h = s.norm(f"{block}.final_layer_norm", x)
        feed_forward(s, label, h, units, mlp, (f"{block}.fc1", f"{block}.fc2"))
        x = s.join(f"{label}.out", x, mlp)
    return x


def _attend(s: Builder, p: str, label: str, heads: int, x: Space, memory: Readable | None = None) -> Space:
    """Declare attention of the stream to itself, or to `memory`, and return the stream behind it."""
    axes = attention(s, label, heads, x.units // heads)
    attended = s.free(f"{label}.attention", x.units)
    h = s.norm(f"{p}_layer_norm", x)
    s.linear(f"{p}.q_proj", h, axes.q)
    s.linear(f"{p}.k_proj", memory or h, axes.k, bias=None)
    s.linear(f"{p}.v_proj", memory or h, axes.v)
    s.linear(f"{p}.out_proj", axes.context, attended)
    return s.join(f"{label}.added", x, attended)
