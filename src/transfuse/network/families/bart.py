"""BART (Lewis et al., 2020) and models like it, each with an encoder and a decoder.

They are mBART (Liu et al., 2020), Pegasus (Zhang et al., 2020), M2M-100 (Fan et al., 2020), whose class NLLB has, and
Marian (Junczys-Dowmunt et al., 2018).

BART and Marian have their norms behind the residual additions, the others in front of the branches and at the end of
both stacks. BART and mBART norm the sum of the embeddings in the stream itself, so that its units can only be permuted.
Both stacks share the token embeddings, and therefore the basis of the stream. The others have sinusoids as positions.
Pegasus stores them. Those of Marian and M2M-100 are computed whenever a model is loaded, so that they fix the basis of
the stream.
"""

from collections.abc import Callable

from transfuse.errors import SpecError
from transfuse.network.builder import Builder
from transfuse.network.families.parts import Config, Readable, Trunk
from transfuse.network.families.parts_heads import language_head, linear_head, normed_output, pooler
from transfuse.network.families.parts_stacks import PRE_NORM, stack_blocks, stream
from transfuse.network.space import Space
from transfuse.network.spec import Spec


def conditional_generation(family: str) -> Callable[[Config], Spec]:
    """BartForConditionalGeneration, MBartForConditionalGeneration, M2M100ForConditionalGeneration, MarianMTModel."""

    def declare(config: Config) -> Spec:
        s = Builder(family)
        trunk = _both(s, config, "model.")
        language_head(s, config, trunk)
        if family == "m2m_100":
            return s.build()
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
    """BartModel, MBartModel, PegasusModel, M2M100Model: the outputs of both stacks are outputs of the network."""

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
}
for stem, family in (("Pegasus", "pegasus"), ("M2M100", "m2m_100")):
    ARCHITECTURES |= {
        f"{stem}ForConditionalGeneration": conditional_generation(family),
        f"{stem}Model": model(family),
    }
ARCHITECTURES["MarianMTModel"] = conditional_generation("marian")


def _both(s: Builder, config: Config, p: str) -> Trunk:
    if s.family == "marian" and not config.share_encoder_decoder_embeddings:
        raise SpecError("share_encoder_decoder_embeddings is false, which is not supported in Marian")
    s.part = "embeddings"
    vocabulary = s.fixed("vocabulary", config.vocab_size)
    token = stream(s, "token", config.d_model)
    s.embedding(f"{p}shared", vocabulary, token, scaled=config.scale_embedding)
    encoder = Trunk(vocabulary, token, _stack(s, config, p, "encoder", token), _last_norm(s, f"{p}encoder"))
    x = _stack(s, config, p, "decoder", token, normed_output(s, encoder))
    return Trunk(vocabulary, token, x, _last_norm(s, f"{p}decoder"))


def _last_norm(s: Builder, p: str) -> Callable[..., Readable]:
    """Return what declares the norm at the end of a stack, if norms are in front of the branches."""
    return lambda axis: s.norm(f"{p}.layer_norm", axis) if s.family in PRE_NORM else axis


def _stack(s: Builder, config: Config, p: str, name: str, token: Space, memory: Readable | None = None) -> Space:
    """Declare the embeddings of a stack and its blocks, with attention to `memory` if given."""
    stack = f"{p}{name}"
    s.embedding(f"{stack}.embed_tokens", s.fixed("vocabulary", config.vocab_size), token)
    x = token
    is_learned = s.family in ("bart", "mbart")
    if s.family != "m2m_100":  # whose positions are no parameter
        position = stream(s, f"{name}.position", config.d_model)
        rows = s.fixed("position_id", config.max_position_embeddings + (2 if is_learned else 0))
        s.embedding(f"{stack}.embed_positions", rows, position)
        x = s.join(f"{name}.embed", token, position)
    if is_learned:
        s.post_norm(f"{stack}.layernorm_embedding", x)
    return stack_blocks(s, config, stack, name, x, memory)
