"""Names on the Hub: of a parent that came from there, and of a repository to write to."""

import re
from pathlib import Path

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

CACHED = re.compile(r"/(?:models|datasets)--([^/]+)/snapshots/[0-9a-f]+/?$")  # a folder of the Hub's cache


def hub_name(path: str | None, directory: str = ".") -> str | None:
    """Return the name on the Hub of a model or dataset; None if it is a local one or was in memory.

    Args:
        path: the path or name that the user gave. A name may end with a revision: `org/model@revision`, and that of a
            dataset with a configuration before it: `org/data:config@revision`.
        directory: the folder that a relative path starts from.
    """
    if path is None:
        return None
    if cached := CACHED.search(path):
        return cached[1].replace("--", "/", 1)
    name = re.sub(r":[\w.+-]+$", "", path.partition("@")[0])
    return name if is_repo_id(name) and not (Path(directory) / path).exists() else None


def is_repo_id(name: str) -> bool:
    """Return whether a text has the form of a name on the Hub: `owner/name`, or `name` alone."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True
