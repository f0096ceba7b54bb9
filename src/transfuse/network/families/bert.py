"""BERT (Devlin et al., 2019), RoBERTa (Liu et al., 2019), XLM-R and CamemBERT.

They are post-norm, so gains of norms scale the stream.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from transfuse.network.builder import Builder
from transfuse.network.families.parts import Config, feed_forward
from transfuse.network.families.parts_attention import Attention, attention_with_heads
from transfuse.network.families.parts_heads import linear_head, masked_head, pooler, token_classifiers
from transfuse.network.space import Space
from transfuse.network.spec import Spec
from transfuse.network.token_layout import Tokens

BERT_HEAD = ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.decoder")
BERT_BIASES = ("cls.predictions.bias", "cls.predictions.decoder.bias")


def masked_language_model(config: Config) -> Spec:
    """BertForMaskedLM."""
    return _masked(config, "bert", BERT_HEAD, BERT_BIASES)[0].build()


def pre_training(config: Config) -> Spec:
    """BertForPreTraining, which also predicts whether a text follows another."""
    s, x = _masked(config, "bert", BERT_HEAD, BERT_BIASES)
    pooled = pooler(s, x, "bert.pooler.dense", config.hidden_size)
    s.linear("cls.seq_relationship", pooled, s.fixed("is_next", 2))
    return s.build()


def roberta_masked_language_model(config: Config) -> Spec:
    """RobertaForMaskedLM, XLMRobertaForMaskedLM, CamembertForMaskedLM."""
    names = ("lm_head.dense", "lm_head.layer_norm", "lm_head.decoder")
    return _masked(config, "roberta", names, ("lm_head.bias", "lm_head.decoder.bias"))[0].build()


def _masked(config: Config, family: str, names: tuple[str, str, str], biases: tuple[str, str]) -> tuple[Builder, Space]:
    """Declare an encoder with a head that predicts masked tokens. Return the builder, and the encoder's output."""
    s, vocabulary, token, x = _trunk(config, f"{family}.", family)
    masked_head(s, config, x, vocabulary, token, names, output_biases=biases)
    return s, x


def _trunk(
    config: Config, prefix: str, family: str, *, first_token: bool = False
) -> tuple[Builder, Space, Space, Space]:
    """Declare the encoder. Return the builder, and the spaces of vocabulary, token embeddings and output."""
    s = Builder(family)
    vocabulary = s.fixed("vocabulary", config.vocab_size)
    token = s.free("token", config.hidden_size)
    return s, vocabulary, token, _encoder(s, config, prefix, vocabulary, token, first_token=first_token)


def sequence_classifier(config: Config) -> Spec:
    """BertForSequenceClassification."""
    s, *_, x = _trunk(config, "bert.", "bert", first_token=True)
    pooled = pooler(s, x, "bert.pooler.dense", config.hidden_size)
    linear_head(s, pooled, "classifier", config.num_labels)
    return s.build()


def roberta_sequence_classifier(config: Config) -> Spec:
    """RobertaForSequenceClassification, XLMRobertaForSequenceClassification, CamembertForSequenceClassification."""
    s, *_, x = _trunk(config, "roberta.", "roberta", first_token=True)
    linear_head(s, pooler(s, x, "classifier.dense", config.hidden_size), "classifier.out_proj", config.num_labels)
    return s.build()


def model(family: str) -> Callable[[Config], Spec]:
    """BertModel, RobertaModel, XLMRobertaModel, CamembertModel."""

    def declare(config: Config) -> Spec:
        s, *_, x = _trunk(config, "", family)
        pooler(s, x, "pooler.dense", config.hidden_size)
        return s.build()

    return declare


ARCHITECTURES: dict[str, Callable[[Config], Spec]] = {
    "BertForMaskedLM": masked_language_model,
    "BertForPreTraining": pre_training,
    "BertForSequenceClassification": sequence_classifier,
    **token_classifiers("Bert", partial(_trunk, family="bert"), "bert."),
    "BertModel": model("bert"),
}
for stem in ("Roberta", "XLMRoberta", "Camembert"):
    ARCHITECTURES |= {
        f"{stem}ForMaskedLM": roberta_masked_language_model,
        f"{stem}ForSequenceClassification": roberta_sequence_classifier,
        **token_classifiers(stem, partial(_trunk, family="roberta"), "roberta."),
        f"{stem}Model": model("roberta"),
    }


@dataclass(frozen=True)
class BlockNames:
    """The names of the modules of a post-norm block, from the block on."""

    query: str
    key: str
    value: str
    output: str
    norm: str


BERT_NAMES = BlockNames(
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "attention.output.LayerNorm",
)


def _encoder(
    s: Builder, config: Config, p: str, vocabulary: Space, token: Space, *, first_token: bool = False
) -> Space:
    """Declare everything from tokens to the stream behind the last block.

    Args:
        first_token: whether only the first token of the output is read.
    """
    x = embeddings(s, config, p, vocabulary, token)
    s.post_norm(f"{p}embeddings.LayerNorm", x)
    return blocks(s, config, f"{p}encoder.layer", x, first_token=first_token)


def embeddings(s: Builder, config: Config, p: str, vocabulary: Space, token: Space) -> Space:
    """Declare the embeddings of tokens, their types and learned positions, and return the stream in front of a norm."""
    s.tokens = Tokens(1)
    s.part = "embeddings"
    position = s.free("position", token.units)
    s.embedding(f"{p}embeddings.word_embeddings", vocabulary, token)
    s.embedding(f"{p}embeddings.token_type_embeddings", s.fixed("type", config.type_vocab_size), token)
    s.embedding(f"{p}embeddings.position_embeddings", s.fixed("position_id", config.max_position_embeddings), position)
    return s.join("embed", position, token)


def blocks(
    s: Builder,
    config: Config,
    p: str,
    x: Space,
    names: BlockNames = BERT_NAMES,
    head: Space | None = None,
    *,
    first_token: bool = False,
) -> Space:
    """Declare all blocks, and return the stream behind the last.

    Args:
        p: the name of the list of blocks.
        head: the heads that all blocks share; None: each block has its own.
        first_token: whether only the first token of the output is read.
    """
    for i in range(config.num_hidden_layers):
        heads = head or s.free(f"{i}.head", config.num_attention_heads)
        axes = attention_with_heads(s, i, heads, config.hidden_size // config.num_attention_heads)
        last = i == config.num_hidden_layers - 1
        x = block(s, config, f"{p}.{i}", i, axes, x, names, first_token=first_token and last)
    return x


def block(
    s: Builder,
    config: Config,
    p: str,
    i: int,
    axes: Attention,
    x: Space,
    names: BlockNames,
    *,
    first_token: bool = False,
) -> Space:
    """Declare attention and a feed-forward network, each with a norm behind its residual addition."""
    attended = s.free(f"{i}.attention", config.hidden_size)
    mlp = s.free(f"{i}.mlp", config.hidden_size)

    s.part = "attention"
    s.linear(f"{p}.{names.query}", x, axes.q)
    s.linear(f"{p}.{names.key}", x, axes.k)
    s.linear(f"{p}.{names.value}", x, axes.v)
    s.prefix_only = first_token
    s.linear(f"{p}.{names.output}", axes.context, attended)
    x = s.join(f"{i}.middle", x, attended)
    s.post_norm(f"{p}.{names.norm}", x)

    s.part = "ffn"
    feed_forward(s, i, x, config.intermediate_size, mlp, (f"{p}.intermediate.dense", f"{p}.output.dense"))
    x = s.join(f"{i}.out", x, mlp)
    s.post_norm(f"{p}.output.LayerNorm", x)
    return x
