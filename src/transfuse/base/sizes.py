"""Sizes in bytes, read and written in the units that people use."""

from pydantic import ByteSize, TypeAdapter, ValidationError

BYTE_SIZE = TypeAdapter(ByteSize)
MAX_BYTES = 2**80  # larger numbers may overflow a float


def parse_bytes(size: object) -> int:
    """Return the number of bytes in a size such as `8GB`, `500MB`, `2GiB` or `1000`.

    Raises:
        ValueError: `size` is not a size.
    """
    try:
        count = -1 if isinstance(size, bool) else int(BYTE_SIZE.validate_python(size))  # pydantic reads True as 1 byte
    except (ValidationError, OverflowError):
        count = -1
    if not 0 <= count <= MAX_BYTES:
        raise ValueError("should be a size such as 8GB or 500MB")
    return count


def format_bytes(size: float) -> str:
    """Return a number of bytes in GB, below 1 GB in MB, and below 1 MB in kB."""
    if size >= 1e9:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
