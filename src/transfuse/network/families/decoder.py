"""The classes that transformers builds around every decoder, given the trunk of the family."""

from collections.abc import Callable
from functools import partial

import transformers

from transfuse.network.builder import Builder
from transfuse.network.families.parts import Config, Trunk
from transfuse.network.families.parts_heads import language_head, linear_head, normed_output
from transfuse.network.spec import Spec

CLASSES = frozenset(transformers.__all__)  # names alone, because asking for a class imports its module
MakeTrunk = Callable[[Builder, Config, str], Trunk]


def architectures(
    stem: str,
    trunk: MakeTrunk,
    language: str = "ForCausalLM",
    tokens: str = "score",
    language_bias: str | None = None,
) -> dict[str, Callable[[Config], Spec]]:
    """Return the declarations of a family by class name.

    They are a language model, classifiers of sequences and of tokens, question answering and a model without a head.

    Args:
        stem: the start of the class names.
        trunk: declares everything but the head, with names that begin with a given prefix.
        language: the end of the class name of the language model.
        tokens: the name of the head of the token classifier.
        language_bias: the name of the bias of the language model's head; None: there is none.
    """
    heads: dict[str, Callable[[Builder, Config, Trunk], None]] = {
        language: partial(language_head, bias=language_bias),
        "ForSequenceClassification": partial(_class_head, name="score", bias=None),
        "ForTokenClassification": partial(_class_head, name=tokens),
        "ForQuestionAnswering": partial(_class_head, name="qa_outputs"),
        "Model": _no_head,
    }
    return {
        f"{stem}{ending}": partial(_declare, f"{stem}{ending}", trunk, head)
        for ending, head in heads.items()
        if f"{stem}{ending}" in CLASSES
    }


def _declare(
    architecture: str, trunk: MakeTrunk, head: Callable[[Builder, Config, Trunk], None], config: Config
) -> Spec:
    s = Builder(config.model_type)
    prefix = "" if head is _no_head else f"{getattr(transformers, architecture).base_model_prefix}."
    declared_trunk = trunk(s, config, prefix)
    s.part = "head"
    head(s, config, declared_trunk)
    return s.build()


def _class_head(s: Builder, config: Config, trunk: Trunk, name: str, bias: str | None = "bias") -> None:
    linear_head(s, normed_output(s, trunk), name, config.num_labels, bias)


def _no_head(s: Builder, config: Config, trunk: Trunk) -> None:
    normed_output(s, trunk)
