"""T5 (Raffel et al., 2020), mT5 (Xue et al., 2021) and UMT5 (Chung et al., 2023): encoder and decoder.

They have RMSNorm, no biases, and a bias for each head and distance. Both stacks share the token embeddings, and
therefore the basis of the stream. All layers of a stack share a table of distances, so that their heads are permuted
together; in UMT5, each layer has a table of its own. Hidden units of the first version may be scaled, since they go
through a ReLU.
"""

from collections.abc import Callable

from transfuse.network.builder import Builder
from transfuse.network.families.parts import (
    Config,
    Readable,
    Trunk,
    feed_forward,
    gated_feed_forward,
    token_embedding,
)
from transfuse.network.families.parts_attention import attention_with_heads
from transfuse.network.families.parts_heads import language_head, linear_head, normed_output, pooler
from transfuse.network.space import Space
from transfuse.network.spec import Spec


def conditional_generation(config: Config) -> Spec:
    """T5ForConditionalGeneration, MT5ForConditionalGeneration, UMT5ForConditionalGeneration."""
    s = Builder("t5")
    language_head(s, config, _both(s, config, ""))
    if config.model_type != "mt5" and config.scale_decoder_outputs:
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


CLASSES: dict[str, Callable[[Config], Spec]] = {
    "ForConditionalGeneration": conditional_generation,
    "ForSequenceClassification": sequence_classifier,
    "ForTokenClassification": token_classifier,
    "ForQuestionAnswering": question_answering,
    "EncoderModel": encoder_model,
    "Model": model,
}
ARCHITECTURES = {f"{stem}{ending}": declare for stem in ("T5", "MT5", "UMT5") for ending, declare in CLASSES.items()}


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
    distance = s.fixed("distance", config.relative_attention_num_buckets)
    head = s.free(f"{name}.head", config.num_heads)
    x = token
    for i in range(layers):
        block = f"{p}.block.{i}.layer"
        label = f"{name}.{i}"
        attended = s.free(f"{label}.attention", width)
        mlp = s.free(f"{label}.mlp", width)
        s.part = "attention"
        if config.model_type == "umt5":
            head = s.free(f"{label}.head", config.num_heads)
        if i == 0 or config.model_type == "umt5":
            s.parameter(f"{block}.0.SelfAttention.relative_attention_bias.weight", distance, head)
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
    feed_forward(s, label, reads, config.d_ff, writes, (f"{p}.wi", f"{p}.wo"), None, config.dense_act_fn)
