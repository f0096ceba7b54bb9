"""EuroBERT (Boizard et al., 2025): an encoder with the blocks of Llama."""

from collections.abc import Callable

from transfuse.network.builder import Builder
from transfuse.network.families.llama import attend, pre_norm, transform
from transfuse.network.families.parts import Config, Trunk, bias_if
from transfuse.network.families.parts_heads import language_head, linear_head, normed_output
from transfuse.network.spec import Spec

TRUNK = pre_norm(attend, transform)


def masked_language_model(config: Config) -> Spec:
    """EuroBertForMaskedLM."""
    s, trunk = _encoder(config, "model.")
    language_head(s, config, trunk, bias=bias_if(config.mlp_bias))
    return s.build()


def sequence_classifier(config: Config) -> Spec:
    """EuroBertForSequenceClassification: one layer of hidden units in front of the scores."""
    s, trunk = _encoder(config, "model.")
    s.part = "head"
    hidden = s.free("guess", config.hidden_size)
    s.linear("dense", normed_output(s, trunk), hidden)
    linear_head(s, hidden, "classifier", config.num_labels)
    return s.build()


def token_classifier(config: Config) -> Spec:
    """EuroBertForTokenClassification."""
    s, trunk = _encoder(config, "model.")
    linear_head(s, normed_output(s, trunk), "classifier", config.num_labels)
    return s.build()


def model(config: Config) -> Spec:
    """EuroBertModel."""
    s, trunk = _encoder(config, "")
    normed_output(s, trunk)
    return s.build()


def _encoder(config: Config, p: str) -> tuple[Builder, Trunk]:
    s = Builder("eurobert")
    return s, TRUNK(s, config, p)


ARCHITECTURES: dict[str, Callable[[Config], Spec]] = {
    "EuroBertForMaskedLM": masked_language_model,
    "EuroBertForSequenceClassification": sequence_classifier,
    "EuroBertForTokenClassification": token_classifier,
    "EuroBertModel": model,
}
