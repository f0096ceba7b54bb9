"""Silence for libraries whose errors transfuse reports itself, in one line. Only `quiet` imports them."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Suppress progress bars, warnings, log lines and prints of libraries, so that stdout holds the result only."""
    with suppress_output(), quiet():  # which imports the libraries; that may warn
        yield


@contextmanager
def suppress_output() -> Iterator[None]:
    """Suppress prints, warnings and log lines, without importing the libraries that cause them."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with open(os.devnull, "w") as devnull, redirect_stdout(devnull), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


@contextmanager
def quiet() -> Iterator[None]:
    """Turn off progress bars and log lines of datasets, transformers and the Hub; restore the settings afterward."""
    import datasets
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging as model_logging

    loggers = (datasets.logging, hub_logging, model_logging)
    levels = [logger.get_verbosity() for logger in loggers]
    datasets_bars = datasets.is_progress_bar_enabled()
    transformers_bars = model_logging.is_progress_bar_enabled()
    for logger in loggers:
        logger.set_verbosity(logger.CRITICAL)
    datasets.disable_progress_bars()
    model_logging.disable_progress_bar()
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.set_verbosity(level)
        if datasets_bars:
            datasets.enable_progress_bars()
        if transformers_bars:
            model_logging.enable_progress_bar()
