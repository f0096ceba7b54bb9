"""ELECTRA (Clark et al., 2020): the blocks of BERT behind embeddings that may be narrower than the stream.

Narrow embeddings are a stream of their own, whose norm only the projection into the blocks reads. Therefore, this
stream rotates, unless the output matrix of a generator is tied to it.
"""

from collections.abc import Callable

from transfuse.network.builder import Builder
from transfuse.network.families.bert import blocks, embeddings
from transfuse.network.families.parts import Config
from transfuse.network.families.parts_heads import masked_head, token_classifiers
from transfuse.network.space import Space
from transfuse.network.spec import Spec


def masked_language_model(config: Config) -> Spec:
    """ElectraForMaskedLM, the generator."""
    s, vocabulary, token, x = _encoder(config, "electra.")
    names = ("generator_predictions.dense", "generator_predictions.LayerNorm", "generator_lm_head")
    masked_head(s, config, x, vocabulary, token, names, ("bias", "bias", "bias"))
    return s.build()


def pre_training(config: Config) -> Spec:
    """ElectraForPreTraining, the discriminator: one logit per token."""
    s, _, _, x = _encoder(config, "electra.")
    _hidden_head(s, config, x, "discriminator_predictions.dense", "discriminator_predictions.dense_prediction", 1)
    return s.build()


def sequence_classifier(config: Config) -> Spec:
    """ElectraForSequenceClassification."""
    s, _, _, x = _encoder(config, "electra.", first_token=True)
    _hidden_head(s, config, x, "classifier.dense", "classifier.out_proj", config.num_labels)
    return s.build()


def model(config: Config) -> Spec:
    """ElectraModel."""
    return _encoder(config, "")[0].build()


def _hidden_head(s: Builder, config: Config, x: Space, first: str, second: str, units: int) -> None:
    """Declare a head with one layer of hidden units."""
    s.part = "head"
    hidden = s.free("guess", config.hidden_size)
    s.linear(first, x, hidden)
    s.linear(second, hidden, s.fixed("class", units))


def _encoder(config: Config, p: str, *, first_token: bool = False) -> tuple[Builder, Space, Space, Space]:
    """Declare the encoder. Return the builder, and the spaces of vocabulary, token embeddings and output."""
    s = Builder("electra")
    vocabulary = s.fixed("vocabulary", config.vocab_size)
    token = s.free("token", config.embedding_size)
    x = embeddings(s, config, p, vocabulary, token)
    if config.embedding_size == config.hidden_size:
        s.post_norm(f"{p}embeddings.LayerNorm", x)
    else:
        h = s.norm(f"{p}embeddings.LayerNorm", x)
        x = s.free("projected", config.hidden_size)
        s.linear(f"{p}embeddings_project", h, x)
    return s, vocabulary, token, blocks(s, config, f"{p}encoder.layer", x, first_token=first_token)


ARCHITECTURES: dict[str, Callable[[Config], Spec]] = {
    "ElectraForMaskedLM": masked_language_model,
    "ElectraForPreTraining": pre_training,
    "ElectraForSequenceClassification": sequence_classifier,
    "ElectraModel": model,
} | token_classifiers("Electra", _encoder, "electra.")
