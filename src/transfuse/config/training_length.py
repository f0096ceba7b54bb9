"""Declare how long weights or maps are trained, and how fast."""

from __future__ import annotations

from transfuse.config.fields import Count, Positive, option
from transfuse.config.labels import Labels, label, refused
from transfuse.config.literals import MINUTES, Effort
from transfuse.config.settings import Settings

TRAINING = "Training"


class TrainingLength(Settings):
    """Hold how long training may take, and the learning rate."""

    effort: Effort = option(
        "normal", "How long training may take: quick does not train; normal, 5 minutes; high, 30.", panel=TRAINING
    )
    minutes: Positive | None = option(
        None,
        "How long training may take, in minutes. It ends earlier if held-out samples stop improving.",
        "NUMBER",
        TRAINING,
    )
    steps: Count | None = option(None, "Number of training steps, instead of a time.", "COUNT", TRAINING)
    learning_rate: Positive | None = option(
        None,
        "Initial learning rate, relative to the size of the weights. Default: 0.02 for the weights of text models,"
        " otherwise 0.01.",
        "NUMBER",
        TRAINING,
    )

    def learning_minutes(self) -> float:
        """Return the minutes that training may take."""
        return MINUTES[self.effort] if self.minutes is None else self.minutes

    def check_length(self, labels: Labels) -> None:
        """Raise `ConfigError` if the length of the training is given in two ways."""
        chosen = self.model_fields_set
        lengths = [name for name in ("steps", "minutes", "effort") if name in chosen and getattr(self, name)]
        if len(lengths) > 1:
            why = f"{label(labels, lengths[0])} already says how long to train; give one of them"
            raise refused(labels, lengths[1], why)
