"""T5 (Raffel et al., 2020): encoder and decoder, RMSNorm, no biases, a bias for each head and distance.

Both stacks share the token embeddings, and therefore the basis of the stream. All layers of a stack share a table of
distances, so that their heads are permuted together. Hidden units of the first version may be scaled, since they go
through a ReLU.
"""

from collections.abc import Callable

from transfuse.network.builder import Builder
from transfuse.network.families.parts import Config, Readable, Trunk, gated_feed_forward, token_embedding
from transfuse.network.families.parts_attention import attention_with_heads
from transfuse.network.families.parts_heads import language_head, linear_head, normed_output, pooler
from transfuse.network.space import Axis, Group, Space
from transfuse.network.spec import Spec


def conditional_generation(config: Config) -> Spec:
    """T5ForConditionalGeneration."""
    s = Builder("t5")
    language_head(s, config, _both(s, config, ""))
    if config.scale_decoder_outputs:
        s.mark_as_divided("decoder.final_layer_norm")
    return s.build()


def model(config: Config) -> Spec:
    """T5Model."""
    s = Builder("t5")
    normed_output(s, _both(s, config, ""))
    s.mark_as_output("encoder.final_layer_norm")
    return s.build()


def encoder_model(config: Config) -> Spec:
    """T5EncoderModel."""
    s = Builder("t5-encoder")
    normed_output(s, _encoder(s, config, ""))
    return s.build()


def sequence_classifier(config: Config) -> Spec:
    """T5ForSequenceClassification: a linear map and tanh in front of the scores."""
    s = Builder("t5")
    trunk = _both(s, config, "transformer.")
    pooled = pooler(s, normed_output(s, trunk), "classification_head.dense", config.d_model)
    linear_head(s, pooled, "classification_head.out_proj", config.num_labels)
    return s.build()


def token_classifier(config: Config) -> Spec:
    """T5ForTokenClassification: the encoder alone."""
    s = Builder("t5-encoder")
    linear_head(s, normed_output(s, _encoder(s, config, "transformer.")), "classifier", config.num_labels)
    return s.build()


def question_answering(config: Config) -> Spec:
    """T5ForQuestionAnswering."""
    s = Builder("t5")
    linear_head(s, normed_output(s, _both(s, config, "")), "qa_outputs", config.num_labels)
    return s.build()


ARCHITECTURES: dict[str, Callable[[Config], Spec]] = {
    "T5ForConditionalGeneration": conditional_generation,
    "T5ForSequenceClassification": sequence_classifier,
    "T5ForTokenClassification": token_classifier,
    "T5ForQuestionAnswering": question_answering,
    "T5EncoderModel": encoder_model,
    "T5Model": model,
}


def _encoder(s: Builder, config: Config, p: str) -> Trunk:
    vocabulary, token = token_embedding(s, f"{p}shared", config, config.d_model)
    x = _stack(s, config, f"{p}encoder", "encoder", config.num_layers, vocabulary, token, None)
    return Trunk(vocabulary, token, x, lambda axis: s.rms_norm(f"{p}encoder.final_layer_norm", axis))


def _both(s: Builder, config: Config, p: str) -> Trunk:
    encoder = _encoder(s, config, p)
    layers = config.num_decoder_layers
    x = _stack(
        s, config, f"{p}decoder", "decoder", layers, encoder.vocabulary, encoder.token, normed_output(s, encoder)
    )
    return Trunk(encoder.vocabulary, encoder.token, x, lambda axis: s.rms_norm(f"{p}decoder.final_layer_norm", axis))


def _stack(
    s: Builder, config: Config, p: str, name: str, layers: int, vocabulary: Space, token: Space, memory: Readable | None
) -> Space:
    """Declare blocks of self-attention, of attention to `memory` if given, and of a feed-forward network."""
    width = config.d_model
    s.embedding(f"{p}.embed_tokens", vocabulary, token)
    head = s.free(f"{name}.head", config.num_heads)
    distance = s.fixed("distance", config.relative_attention_num_buckets)
    s.part = "attention"
    s.parameter(f"{p}.block.0.layer.0.SelfAttention.relative_attention_bias.weight", distance, head)
    x = token
    for i in range(layers):
        block = f"{p}.block.{i}.layer"
        label = f"{name}.{i}"
        attended = s.free(f"{label}.attention", width)
        mlp = s.free(f"{label}.mlp", width)
        s.part = "attention"
        h = s.rms_norm(f"{block}.0.layer_norm", x)
        _attend(s, config, f"{block}.0.SelfAttention", label, head, h, h, attended)
        x = s.join(f"{label}.middle", x, attended)
        if memory is not None:
            crossed = s.free(f"{label}.crossed", width)
            h = s.rms_norm(f"{block}.1.layer_norm", x)
            other = s.free(f"{label}.cross.head", config.num_heads)
            _attend(s, config, f"{block}.1.EncDecAttention", f"{label}.cross", other, h, memory, crossed)
            x = s.join(f"{label}.cross", x, crossed)
        s.part = "ffn"
        last = f"{block}.{1 if memory is None else 2}"
        _feed_forward(s, config, f"{last}.DenseReluDense", label, s.rms_norm(f"{last}.layer_norm", x), mlp)
        x = s.join(f"{label}.out", x, mlp)
    return x


def _attend(
    s: Builder, config: Config, p: str, label: str, head: Space, reads: Readable, memory: Readable, writes: Space
) -> None:
    axes = attention_with_heads(s, label, head, config.d_kv)
    s.linear(f"{p}.q", reads, axes.q, bias=None)
    s.linear(f"{p}.k", memory, axes.k, bias=None)
    s.linear(f"{p}.v", memory, axes.v, bias=None)
    s.linear(f"{p}.o", axes.context, writes, bias=None)


def _feed_forward(s: Builder, config: Config, p: str, label: str, reads: Readable, writes: Space) -> None:
    if config.is_gated_act:
        gated_feed_forward(s, label, reads, config.d_ff, writes, (f"{p}.wi_0", f"{p}.wi_1", f"{p}.wo"))
        return
    hidden = s.free(f"{label}.hidden", config.d_ff)
    units: Axis = hidden
    if config.dense_act_fn == "relu":
        units = hidden * s.free(f"{label}.scale", 1, Group.POSITIVE, within=hidden)
    s.linear(f"{p}.wi", reads, units, bias=None)
    s.linear(f"{p}.wo", units, writes, bias=None)
