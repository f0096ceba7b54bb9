"""Silence for libraries whose errors transfuse reports itself, in one line."""

from collections.abc import Iterator
from contextlib import contextmanager

import datasets
from huggingface_hub.utils import logging as hub_logging
from transformers.utils import logging as model_logging

LOGGERS = (datasets.logging, hub_logging, model_logging)


@contextmanager
def quiet() -> Iterator[None]:
    """Turn off progress bars and log lines of datasets, transformers and the Hub; restore the settings afterward."""
    levels = [logger.get_verbosity() for logger in LOGGERS]
    datasets_bars = datasets.is_progress_bar_enabled()
    transformers_bars = model_logging.is_progress_bar_enabled()
    for logger in LOGGERS:
        logger.set_verbosity(logger.CRITICAL)
    datasets.disable_progress_bars()
    model_logging.disable_progress_bar()
    try:
        yield
    finally:
        for logger, level in zip(LOGGERS, levels, strict=True):
            logger.set_verbosity(level)
        if datasets_bars:
            datasets.enable_progress_bars()
        if transformers_bars:
            model_logging.enable_progress_bar()
