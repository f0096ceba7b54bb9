"""BART (Lewis et al., 2020), mBART (Liu et al., 2020) and Marian (Junczys-Dowmunt et al., 2018): encoder and decoder.

BART has its norms behind the residual additions, mBART in front of the branches and at the end of both stacks. Both
norm the sum of the embeddings in the stream itself, so that its units can only be permuted. Both stacks share the token
embeddings, and therefore the basis of the stream. Marian is a BART with sinusoids as positions and without that first
norm. The sinusoids are not saved, but computed whenever a model is loaded, so that they fix the basis of the stream.
"""

from collections.abc import Callable

from transfuse.errors import SpecError
from transfuse.network.builder import Builder
from transfuse.network.families.parts import Config, Readable, Trunk, feed_forward
from transfuse.network.families.parts_attention import attention
from transfuse.network.families.parts_heads import language_head, linear_head, normed_output, pooler
from transfuse.network.space import Space
from transfuse.network.spec import Spec


def conditional_generation(family: str) -> Callable[[Config], Spec]:
    """BartForConditionalGeneration, MBartForConditionalGeneration, MarianMTModel."""

    def declare(config: Config) -> Spec:
        s = Builder(family)
        trunk = _both(s, config, "model.")
        language_head(s, config, trunk)
        s.part = "head"
        s.table("final_logits_bias", (s.fixed("one", 1),), trunk.vocabulary)
        return s.build()

    return declare


def sequence_classifier(family: str) -> Callable[[Config], Spec]:
    """BartForSequenceClassification, MBartForSequenceClassification: a linear map and tanh in front of the scores."""

    def declare(config: Config) -> Spec:
        s = Builder(family)
        h = normed_output(s, _both(s, config, "model."))
        pooled = pooler(s, h, "classification_head.dense", config.d_model)
        linear_head(s, pooled, "classification_head.out_proj", config.num_labels)
        return s.build()

    return declare


def question_answering(family: str) -> Callable[[Config], Spec]:
    """BartForQuestionAnswering, MBartForQuestionAnswering."""

    def declare(config: Config) -> Spec:
        s = Builder(family)
        linear_head(s, normed_output(s, _both(s, config, "model.")), "qa_outputs", config.num_labels)
        return s.build()

    return declare


def model(family: str) -> Callable[[Config], Spec]:
    """BartModel, MBartModel: the outputs of both stacks are outputs of the network."""

    def declare(config: Config) -> Spec:
        s = Builder(family)
        normed_output(s, _both(s, config, ""))
        s.mark_as_output("encoder.layer_norm")
        return s.build()

    return declare


ARCHITECTURES: dict[str, Callable[[Config], Spec]] = {
    f"{stem}{ending}": declare(family)
    for stem, family in (("Bart", "bart"), ("MBart", "mbart"))
    for ending, declare in {
        "ForConditionalGeneration": conditional_generation,
        "ForSequenceClassification": sequence_classifier,
        "ForQuestionAnswering": question_answering,
        "Model": model,
    }.items()
} | {"MarianMTModel": conditional_generation("marian")}


def _both(s: Builder, config: Config, p: str) -> Trunk:
    if s.family == "marian" and not config.share_encoder_decoder_embeddings:
        raise SpecError("share_encoder_decoder_embeddings is false, which is not supported in Marian")
    s.part = "embeddings"
    vocabulary = s.fixed("vocabulary", config.vocab_size)
    token = _stream(s, "token", config.d_model)
    s.embedding(f"{p}shared", vocabulary, token, scaled=config.scale_embedding)
    encoder = Trunk(vocabulary, token, _stack(s, config, p, "encoder", token), _last_norm(s, f"{p}encoder"))
    x = _stack(s, config, p, "decoder", token, normed_output(s, encoder))
    return Trunk(vocabulary, token, x, _last_norm(s, f"{p}decoder"))


def _stream(s: Builder, name: str, width: int) -> Space:
    """Return a space of what is added to the stream."""
    return (s.fixed if s.family == "marian" else s.free)(name, width)


def _last_norm(s: Builder, p: str) -> Callable[..., Readable]:
    """Return what declares the norm at the end of a stack, which only mBART has."""
    return lambda axis: s.norm(f"{p}.layer_norm", axis) if s.family == "mbart" else axis


def _stack(s: Builder, config: Config, p: str, name: str, token: Space, memory: Readable | None = None) -> Space:
    """Declare blocks of self-attention, of attention to `memory` if given, and of a feed-forward network."""
    stack = f"{p}{name}"
    heads, layers, units = (getattr(config, f"{name}_{size}") for size in ("attention_heads", "layers", "ffn_dim"))
    position = _stream(s, f"{name}.position", config.d_model)
    s.embedding(f"{stack}.embed_tokens", s.fixed("vocabulary", config.vocab_size), token)
    is_marian = s.family == "marian"
    rows = s.fixed("position_id", config.max_position_embeddings + (0 if is_marian else 2))
    s.embedding(f"{stack}.embed_positions", rows, position)
    x = s.join(f"{name}.embed", token, position)
    if not is_marian:
        s.post_norm(f"{stack}.layernorm_embedding", x)
    for i in range(layers):
        block = f"{stack}.layers.{i}"
        label = f"{name}.{i}"
        s.part = "attention"
        x = _attend(s, block, "self_attn", f"{label}.self", heads, x)
        if memory is not None:
            x = _attend(s, block, "encoder_attn", f"{label}.cross", heads, x, memory)
        s.part = "ffn"
        mlp = _stream(s, f"{label}.mlp", config.d_model)
        h = _read(s, f"{block}.final_layer_norm", x)
        feed_forward(s, label, h, units, mlp, (f"{block}.fc1", f"{block}.fc2"))
        x = _add(s, f"{block}.final_layer_norm", f"{label}.out", x, mlp)
    return x


def _attend(
    s: Builder, block: str, module: str, label: str, heads: int, x: Space, memory: Readable | None = None
) -> Space:
    """Declare attention of the stream to itself, or to `memory`, and return the stream behind it."""
    p = f"{block}.{module}"
    axes = attention(s, label, heads, x.units // heads)
    attended = _stream(s, f"{label}.attention", x.units)
    h = _read(s, f"{p}_layer_norm", x)
    s.linear(f"{p}.q_proj", h, axes.q)
    s.linear(f"{p}.k_proj", memory or h, axes.k)
    s.linear(f"{p}.v_proj", memory or h, axes.v)
    s.linear(f"{p}.out_proj", axes.context, attended)
    return _add(s, f"{p}_layer_norm", f"{label}.added", x, attended)


def _read(s: Builder, norm: str, x: Space) -> Readable:
    """Return what a branch reads: the stream, or in mBART the output of a norm."""
    return s.norm(norm, x) if s.family == "mbart" else x


def _add(s: Builder, norm: str, name: str, x: Space, branch: Space) -> Space:
    """Declare a residual addition, in BART and Marian with a norm behind it."""
    x = s.join(name, x, branch)
    if s.family != "mbart":
        s.post_norm(norm, x)
    return x
