"""Silence for libraries whose errors are reported in one line of our own."""

from collections.abc import Iterator
from contextlib import contextmanager

import datasets
from huggingface_hub.utils import logging as hub_logging
from transformers.utils import logging as model_logging

LOGGERS = (datasets.logging, hub_logging, model_logging)


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bar and no log line from datasets, transformers and the Hub inside; all as they were afterwards."""
    levels = [logger.get_verbosity() for logger in LOGGERS]
    data_bars, model_bars = datasets.is_progress_bar_enabled(), model_logging.is_progress_bar_enabled()
    for logger in LOGGERS:
        logger.set_verbosity(logger.CRITICAL)
    datasets.disable_progress_bars()
    model_logging.disable_progress_bar()
    try:
        yield
    finally:
        for logger, level in zip(LOGGERS, levels, strict=True):
            logger.set_verbosity(level)
        if data_bars:
            datasets.enable_progress_bars()
        if model_bars:
            model_logging.enable_progress_bar()
