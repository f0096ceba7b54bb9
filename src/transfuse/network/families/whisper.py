"""Whisper (Radford et al., 2023): an encoder of sound, with convolutions at its start, and a decoder of text.

The second convolution writes the stream of the encoder through a GELU, so that this stream is only permuted. The
positions of the encoder are sinusoids, but they are stored like learned ones, and permuted with the stream.
"""

from transfuse.network.builder import Builder, Normed
from transfuse.network.families.parts import Config, Trunk
from transfuse.network.families.parts_heads import language_head, normed_output
from transfuse.network.families.parts_stacks import stack_blocks
from transfuse.network.spec import Spec
from transfuse.network.token_layout import Tokens


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
    x = stack_blocks(s, config, f"{p}decoder", "decoder", x, memory)
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
    x = stack_blocks(s, config, p, "encoder", s.join("encoder.embed", frame, position))
    return s.norm(f"{p}.layer_norm", x)
