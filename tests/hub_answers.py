"""Answers of the Hub that refuse a request."""

from huggingface_hub.errors import HfHubHTTPError


class Response:
    """The answer of a server that refuses."""

    headers: dict[str, str] = {}  # noqa: RUF012
    request = None

    def __init__(self, status: int) -> None:
        self.status_code = status


def refused(status: int, kind: type[HfHubHTTPError] = HfHubHTTPError) -> HfHubHTTPError:
    return kind("no such thing\nfor you", response=Response(status))  # type: ignore[arg-type]
