"""Variants of masked texts, drawn from the parents' own predictions.

The parents know more texts than the given ones: a token that they predict for a masked position gives another text of
the kind that they know. A variant fills the masked positions with tokens drawn from the parents' mean prediction, and
masks others. Repeated, this is Gibbs sampling from the parents, as in Wang & Cho (1902.04094), started at the given
texts. The predictions are the targets of the training anyway, so drawing costs nothing beside them.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.base.batch import IGNORED_LABEL, Batch, has_targets, labels_of
from transfuse.base.draw import draw_classes
from transfuse.data.tasks import MASKED_LM, task
from transfuse.data.text.texts import mask_tokens
from transfuse.distillation.variants import Variants

MAX_TEXT_VARIANTS = 8  # of each batch, the given one included

Probabilities = Float[Tensor, "answer token"]


class TextVariants(Variants):
    """Variants of batches of masked texts."""

    def __init__(
        self,
        batches: Sequence[Batch],
        kept: int,
        vocab_size: int,
        predict: Callable[[Batch], Iterable[Probabilities]],
        seed: int = 0,
    ) -> None:
        """
        Args:
            batches: the given texts, with labels at masked positions.
            kept: as in `Variants`; at most `MAX_TEXT_VARIANTS` are.
            vocab_size: number of tokens that a random token is drawn from.
            predict: returns the probability of each token at the labeled positions of a batch, slice by slice.
        """
        super().__init__(batches, min(kept, MAX_TEXT_VARIANTS), seed)
        self.vocab_size = vocab_size
        self.predict = predict
        labels = torch.cat([labels_of(batch) for batch in batches])
        masked = torch.cat([batch["input_ids"][batch["labels"] != IGNORED_LABEL] for batch in batches])
        self.mask = int(masked.mode().values)  # most masked tokens are replaced by the mask token
        seen = torch.cat([batch["input_ids"].flatten() for batch in batches]).unique()
        self.never_masked = seen[~torch.isin(seen, labels) & (seen != self.mask)]

    @torch.no_grad()
    def _next(self, variants: Sequence[Batch], generator: torch.Generator) -> Batch:
        """Return the last batch with drawn tokens at its masked positions, and other masks.

        If no token of it would be masked, the last batch is returned.
        """
        batch = variants[-1]
        labels = batch["labels"]
        drawn = torch.cat([draw_classes(part, generator) for part in self.predict(batch)])
        texts = batch["input_ids"].masked_scatter(labels != IGNORED_LABEL, drawn.to(labels))
        ids, new_labels = mask_tokens(texts.cpu(), self.never_masked.cpu(), self.mask, self.vocab_size, generator)
        changed = {**batch, "input_ids": ids.to(labels), "labels": new_labels.to(labels)}
        return changed if has_targets(changed) else batch


def is_masked(model: PreTrainedModel, batch: Batch) -> bool:
    """Return whether a model predicts the masked tokens of a batch, so that its texts have variants."""
    return "labels" in batch and task(type(model).__name__) is MASKED_LM
