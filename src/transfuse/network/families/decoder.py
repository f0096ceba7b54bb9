"""The classes that transformers builds around every decoder, given its trunk."""

from collections.abc import Callable
from functools import partial

import transformers

from transfuse.network.builder import Builder
from transfuse.network.families.parts import Config, Trunk, language_head, linear_head, normed_output
from transfuse.network.spec import Spec

MakeTrunk = Callable[[Builder, Config, str], Trunk]


def architectures(
    stem: str, trunk: MakeTrunk, language: str = "ForCausalLM", tokens: str = "score"
) -> dict[str, Callable[[Config], Spec]]:
    """Declarations by class name: language model, classifiers of sequences and tokens, question answering, bare.

    Args:
        stem: what the classes' names begin with.
        trunk: declares everything but the head; its names begin with the given prefix.
        language: how the language model's class ends; `tokens`: what the token classifier's head is called.
    """
    heads: dict[str, Callable[[Builder, Config, Trunk], None]] = {
        language: language_head,
        "ForSequenceClassification": partial(_scores, name="score", bias=None),
        "ForTokenClassification": partial(_scores, name=tokens),
        "ForQuestionAnswering": partial(_scores, name="qa_outputs"),
        "Model": _bare,
    }
    return {
        f"{stem}{ending}": partial(_declare, f"{stem}{ending}", trunk, head)
        for ending, head in heads.items()
        if hasattr(transformers, f"{stem}{ending}")
    }


def _declare(
    architecture: str, trunk: MakeTrunk, head: Callable[[Builder, Config, Trunk], None], config: Config
) -> Spec:
    s = Builder(config.model_type)
    prefix = "" if head is _bare else f"{getattr(transformers, architecture).base_model_prefix}."
    found = trunk(s, config, prefix)
    s.part = "head"
    head(s, config, found)
    return s.build()


def _scores(s: Builder, config: Config, trunk: Trunk, name: str, bias: str | None = "bias") -> None:
    linear_head(s, normed_output(s, trunk), name, config.num_labels, bias)


def _bare(s: Builder, config: Config, trunk: Trunk) -> None:
    normed_output(s, trunk)
