"""Writing a checkpoint to a repository on the Hub."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

from transfuse.checkpoint.reading.hub_names import hub_name, is_repo_id
from transfuse.errors import ConfigError, OutputError, first_line

COMMIT_MESSAGE = "Upload a model fused with transfuse"
LOGIN = "log in with `hf auth login`, or set HF_TOKEN"
UNAUTHORIZED, FORBIDDEN = 401, 403


def check_push(
    repo_id: str, parents: Sequence[str | None] = (), token: str | None = None, label: str = "push_to_hub"
) -> None:
    """Check what can be checked without the network, so that a long fusion does not end with a mistyped name.

    Args:
        parents: the paths or names of the fused models and of their base, which must not be overwritten.
        label: how messages name the option.

    Raises:
        ConfigError: the name is not valid or is that of a parent, or there is no token.
    """
    if not is_repo_id(repo_id):
        raise ConfigError(f"{label}: {repo_id!r} is not the name of a repository; give one such as user/name")
    if repo_id in [hub_name(parent) for parent in parents]:
        raise ConfigError(f"{label}: {repo_id} is one of the fused models, or their base; give another name")
    if not (token or get_token()):
        raise ConfigError(f"{label}: not logged in to the Hub; {LOGIN}")


def push_folder(
    folder: Path,
    repo_id: str,
    private: bool | None = None,
    token: str | None = None,
    commit_message: str = COMMIT_MESSAGE,
) -> str:
    """Upload all files of a folder to a repository, which is created if there is none, and return its address.

    Raises:
        OutputError: the Hub cannot be reached, or refuses the repository or the files.
    """
    api = HfApi(token=token, library_name="transfuse", library_version=version("transfuse"))
    try:
        url = api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(repo_id=url.repo_id, folder_path=folder, commit_message=commit_message)
    except Exception as error:  # of the network, of the Hub's answers and of its client
        raise OutputError(f"{repo_id}: not written to the Hub: {_reason(error)}") from error
    return str(url)


def _reason(error: Exception) -> str:
    """Return what went wrong and what to do, in one line."""
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, LocalTokenNotFoundError) or status == UNAUTHORIZED:
        return f"not logged in, or the token is not valid; {LOGIN}"
    if status == FORBIDDEN:
        return "the token may not write there; take a token with write access, or another name"
    if isinstance(error, OfflineModeIsEnabled):
        return "offline mode is on; unset HF_HUB_OFFLINE"
    if status is None:
        return f"it could not be reached ({first_line(error)}); check the network"
    return f"it refused ({first_line(error)})"
