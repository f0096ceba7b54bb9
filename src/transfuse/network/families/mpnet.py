"""MPNet (Song et al., 2020): the blocks of BERT, and a bias for each head and distance that all blocks share."""

from collections.abc import Callable

from transfuse.network.builder import Builder
from transfuse.network.families.bert import BlockNames, blocks
from transfuse.network.families.parts import Config, token_embedding
from transfuse.network.families.parts_heads import linear_head, masked_head, pooler, token_classifiers
from transfuse.network.space import Space
from transfuse.network.spec import Spec
from transfuse.network.token_layout import Tokens

NAMES = BlockNames(
    "attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o", "attention.LayerNorm"
)


def masked_language_model(config: Config) -> Spec:
    """MPNetForMaskedLM."""
    s, vocabulary, token, x = _encoder(config, "mpnet.")
    names = ("lm_head.dense", "lm_head.layer_norm", "lm_head.decoder")
    biases = ("lm_head.bias", "lm_head.decoder.bias")
    masked_head(s, config, x, vocabulary, token, names, output_biases=biases)
    return s.build()


def sequence_classifier(config: Config) -> Spec:
    """MPNetForSequenceClassification."""
    s, _, _, x = _encoder(config, "mpnet.", first_token=True)
    linear_head(s, pooler(s, x, "classifier.dense", config.hidden_size), "classifier.out_proj", config.num_labels)
    return s.build()


def model(config: Config) -> Spec:
    """MPNetModel."""
    s, _, _, x = _encoder(config, "")
    pooler(s, x, "pooler.dense", config.hidden_size)
    return s.build()


def _encoder(config: Config, p: str, *, first_token: bool = False) -> tuple[Builder, Space, Space, Space]:
    """Declare the encoder. Return the builder, and the spaces of vocabulary, token embeddings and output."""
    s = Builder("mpnet")
    s.tokens = Tokens(1)
    vocabulary, token = token_embedding(s, f"{p}embeddings.word_embeddings", config, config.hidden_size)
    position = s.free("position", config.hidden_size)
    s.embedding(f"{p}embeddings.position_embeddings", s.fixed("position_id", config.max_position_embeddings), position)
    x = s.join("embed", position, token)
    s.post_norm(f"{p}embeddings.LayerNorm", x)
    head = s.free("head", config.num_attention_heads)
    s.part = "attention"
    distance = s.fixed("distance", config.relative_attention_num_buckets)
    s.parameter(f"{p}encoder.relative_attention_bias.weight", distance, head)
    return s, vocabulary, token, blocks(s, config, f"{p}encoder.layer", x, NAMES, head, first_token=first_token)


ARCHITECTURES: dict[str, Callable[[Config], Spec]] = {
    "MPNetForMaskedLM": masked_language_model,
    "MPNetForSequenceClassification": sequence_classifier,
    "MPNetModel": model,
} | token_classifiers("MPNet", _encoder, "mpnet.")
