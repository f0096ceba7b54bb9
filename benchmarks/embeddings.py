"""Measure how well a smaller model of sentence embeddings replaces the large one, on movie reviews (SST-2)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from torch import Tensor
from transformers import PreTrainedModel

LABELED = 4000  # sentences that the classifier is trained on
AT_ONCE = 200  # sentences that run together


class EmbeddingQuality:
    """Labeled sentences, and the large model's embeddings of those that smaller models are measured on."""

    def __init__(self, large: PreTrainedModel, tokenizer: Any, train: Dataset, measured: Dataset) -> None:
        self.tokenizer = tokenizer
        self.train = train.select(range(LABELED))
        self.measured = measured
        self.expected = self._embed(large, measured["sentence"])

    def measure(self, model: PreTrainedModel) -> dict[str, float]:
        """Return how close the embeddings are to those of the large model, and what a classifier makes of them.

        Returns:
            `cosine`: mean similarity of the two embeddings of a sentence. `ranks`: Spearman's correlation of the
            similarities of all pairs of sentences. `loss`, `accuracy`: of logistic regression on the embeddings.
        """
        found = self._embed(model, self.measured["sentence"])
        pairs = torch.triu_indices(len(found), len(found), 1).unbind()
        similarities = [(values @ values.T)[pairs] for values in (found, self.expected)]
        classifier = LogisticRegression(max_iter=1000).fit(
            self._embed(model, self.train["sentence"]).numpy(), self.train["label"]
        )
        labels = np.asarray(self.measured["label"])
        probabilities = classifier.predict_proba(found.numpy())
        return {
            "loss": float(log_loss(labels, probabilities)),
            "accuracy": float((probabilities.argmax(1) == labels).mean()),
            "cosine": float((found * self.expected).sum(1).mean()),
            "ranks": float(spearmanr(*similarities).statistic),
        }

    @torch.no_grad()
    def _embed(self, model: PreTrainedModel, sentences: Sequence[str]) -> Tensor:
        """Return the mean of the tokens of the last block, of length one, as sentence-transformers does."""
        parts = []
        for start in range(0, len(sentences), AT_ONCE):
            inputs = self.tokenizer(list(sentences[start : start + AT_ONCE]), padding=True, return_tensors="pt")
            mask = inputs["attention_mask"].unsqueeze(2)
            states = model(**inputs).last_hidden_state
            parts.append(torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1)))
        return torch.cat(parts)
