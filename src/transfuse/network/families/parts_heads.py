"""Heads that several families share: logits of tokens and classes, and poolers."""

from collections.abc import Callable
from functools import partial

from transfuse.network.builder import Builder
from transfuse.network.families.parts import Config, Readable, Trunk
from transfuse.network.space import Group, Space
from transfuse.network.spec import Spec

Encode = Callable[[Config, str], tuple[Builder, Space, Space, Readable]]


def normed_output(s: Builder, trunk: Trunk) -> Readable:
    """Declare the last norm, and return the output of the trunk behind it."""
    return trunk.norm(trunk.out)


def language_head(s: Builder, config: Config, trunk: Trunk, name: str = "lm_head", bias: str | None = None) -> None:
    """Declare one logit per token.

    If the matrix is tied to the embedding, its input is the dual of the space that the embedding writes.
    """
    s.part = "embeddings" if config.tie_word_embeddings else "head"
    if config.tie_word_embeddings:
        normed = trunk.norm(~trunk.token)
        s.linear(name, normed if trunk.plain_norm else ~trunk.token, trunk.vocabulary, bias)
    else:
        s.linear(name, normed_output(s, trunk), trunk.vocabulary, bias)


def masked_head(
    s: Builder,
    config: Config,
    reads: Readable,
    vocabulary: Space,
    token: Space,
    names: tuple[str, str, str],
    biases: tuple[str | None, str | None, str | None] = ("bias", "bias", None),
    output_biases: tuple[str, ...] = (),
) -> None:
    """Declare a linear map, a norm and one logit per token.

    Args:
        token: the space that the token embedding writes.
        names: the names of the linear map, the norm and the output matrix.
        biases: the names of their biases; None: there is none.
        output_biases: all names of the bias of the logits, if it is a parameter of the head with several names.
    """
    tied = config.tie_word_embeddings
    guess = token if tied else s.free("guess", token.units)
    read = ~guess if tied else guess
    s.part = "head"
    s.linear(names[0], reads, guess, biases[0])
    s.post_norm(names[1], read, biases[1])
    s.part = "embeddings" if tied else "head"
    s.linear(names[2], read, vocabulary, biases[2])
    s.part = "head"
    for name in output_biases:
        s.table(name, (), vocabulary)


def linear_head(s: Builder, reads: Readable, name: str, units: int, bias: str | None = "bias") -> None:
    """Declare one logit per class."""
    s.part = "head"
    s.linear(name, reads, s.fixed("class", units), bias)


def pooler(s: Builder, reads: Readable, name: str, width: int, activation: str = "tanh") -> Space:
    """Declare a linear map and an activation, whose units may change sign if it is tanh, since tanh is odd."""
    pooled = s.free("pooled", width, Group.SIGNED if activation == "tanh" else Group.PERMUTATION)
    s.part = "head"
    s.linear(name, reads, pooled)
    return pooled


def token_classifiers(stem: str, encode: Encode, prefix: str) -> dict[str, Callable[[Config], Spec]]:
    """Return the declarations, by class name, of the classifier of tokens and the reader of answers of an encoder.

    Args:
        stem: the start of the class names.
        encode: declares an encoder whose names begin with a given prefix, and returns the builder, the spaces of
            vocabulary and token embeddings, and the output.
    """
    heads = {"ForTokenClassification": "classifier", "ForQuestionAnswering": "qa_outputs"}
    return {f"{stem}{ending}": partial(_token_classifier, encode, prefix, name) for ending, name in heads.items()}


def _token_classifier(encode: Encode, prefix: str, name: str, config: Config) -> Spec:
    s, *_, x = encode(config, prefix)
    linear_head(s, x, name, config.num_labels)
    return s.build()
