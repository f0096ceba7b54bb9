"""BERT (Devlin et al., 2019), as transformers builds it: post-norm, so the stream itself carries the norms' gains."""

from transformers import PretrainedConfig

from transfuse.network.builder import Builder
from transfuse.network.space import Group, Space
from transfuse.network.spec import Spec, Tokens


def masked_language_model(config: PretrainedConfig) -> Spec:
    """BertForMaskedLM. Tied, one matrix writes words; what meets it on the way out then reads them."""
    s = Builder("bert")
    vocabulary = s.fixed("vocabulary", config.vocab_size)
    word = s.free("word", config.hidden_size)
    x = _encoder(s, config, vocabulary, word, classifies=False)

    tied = config.tie_word_embeddings
    guess = word if tied else s.free("guess", config.hidden_size)
    read = ~guess if tied else guess
    s.part = "head"
    s.linear("cls.predictions.transform.dense", x, guess)
    s.post_norm("cls.predictions.transform.LayerNorm", read)
    s.part = "embeddings" if tied else "head"
    s.linear("cls.predictions.decoder", read, vocabulary, bias=None)
    s.part = "head"
    for name in ("cls.predictions.bias", "cls.predictions.decoder.bias"):  # one number under two names
        s.table(name, (), vocabulary)
    return s.build()


def sequence_classifier(config: PretrainedConfig) -> Spec:
    """BertForSequenceClassification."""
    s = Builder("bert")
    vocabulary = s.fixed("vocabulary", config.vocab_size)
    x = _encoder(s, config, vocabulary, s.free("word", config.hidden_size), classifies=True)
    pooled = s.free("pooled", config.hidden_size)
    s.part = "head"
    s.linear("bert.pooler.dense", x, pooled)
    s.linear("classifier", pooled, s.fixed("class", config.num_labels))
    return s.build()


def _encoder(s: Builder, config: PretrainedConfig, vocabulary: Space, word: Space, classifies: bool) -> Space:
    """From words to the stream behind the last block."""
    width, heads = config.hidden_size, config.num_attention_heads
    s.tokens = Tokens(1)

    s.part = "embeddings"
    position = s.free("position", width)
    s.embedding("bert.embeddings.word_embeddings", vocabulary, word)
    s.embedding("bert.embeddings.token_type_embeddings", s.fixed("type", config.type_vocab_size), word)
    s.embedding("bert.embeddings.position_embeddings", s.fixed("place", config.max_position_embeddings), position)
    x = s.join("embed", position, word)
    s.post_norm("bert.embeddings.LayerNorm", x)

    for i in range(config.num_hidden_layers):
        p = f"bert.encoder.layer.{i}"
        head = s.free(f"{i}.head", heads)
        qk = s.free(f"{i}.qk", width // heads, Group.LINEAR, within=head)
        v = s.free(f"{i}.v", width // heads, Group.LINEAR, within=head)
        attention, mlp = s.free(f"{i}.attention", width), s.free(f"{i}.mlp", width)
        hidden = s.free(f"{i}.hidden", config.intermediate_size)

        s.part = "attention"
        s.linear(f"{p}.attention.self.query", x, head * qk)
        s.linear(f"{p}.attention.self.key", x, head * ~qk)
        s.linear(f"{p}.attention.self.value", x, head * v)
        s.prefix_only = classifies and i == config.num_hidden_layers - 1  # a classifier reads the class token alone
        s.linear(f"{p}.attention.output.dense", head * v, attention)
        x = s.join(f"{i}.middle", x, attention)
        s.post_norm(f"{p}.attention.output.LayerNorm", x)

        s.part = "ffn"
        s.linear(f"{p}.intermediate.dense", x, hidden)
        s.linear(f"{p}.output.dense", hidden, mlp)
        x = s.join(f"{i}.out", x, mlp)
        s.post_norm(f"{p}.output.LayerNorm", x)
    return x
