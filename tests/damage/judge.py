"""A command on a damaged input, run in this process, and what it came to: refused, accepted, or a failure."""

import hashlib
import io
import json
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal

from damage.kinds import Make
from damage.subjects import Subjects
from transfuse.checkpoint.reading.load import load_model
from transfuse.cli import main
from transfuse.cli.output import MAX_ERROR_LENGTH

SPOKEN = "Ignored unknown kwarg option"  # tokenizers says so on standard output itself
LIMIT = 60  # seconds for a command


@dataclass(frozen=True)
class Verdict:
    """What a case came to, the command, and what was wrong or said."""

    kind: Literal["refused", "accepted", "failure"]
    command: str
    said: str


class TooLong(BaseException):
    """A command that does not end; nothing catches it."""


def judged(make: Make, seed: int | Random, subjects: Subjects, root: Path) -> Verdict:
    """Make a case in an empty folder below `root`, run its command there, and judge; the folder is removed."""
    here = Path(tempfile.mkdtemp(dir=root))
    before = Path.cwd()
    os.chdir(here)
    try:
        arguments = [str(each) for each in make(Random(seed) if isinstance(seed, int) else seed, subjects, here)]
        there = listing(here)
        command = " ".join(["transfuse", *arguments])
        status, out, err = call(arguments)
        fault = _fault(arguments, status, out, err, here, there)
        return Verdict("failure" if fault else "refused" if status else "accepted", command, fault or err)
    finally:
        os.chdir(before)
        shutil.rmtree(here, ignore_errors=True)


def listing(folder: Path) -> dict[str, str]:
    """Every file below, and what is in it."""
    return {
        str(path.relative_to(folder)): _content(path) for path in sorted(folder.rglob("*"))
    }  # fmt: skip


def _content(path: Path) -> str:
    if path.is_symlink():
        return os.readlink(path)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"


def _fault(arguments: list[str], status: object, out: str, err: str, here: Path, before: dict[str, str]) -> str | None:
    """What should not be, in words; None: all is well."""
    if isinstance(status, BaseException):
        return "".join(traceback.format_exception(status))
    out = "".join(each for each in out.splitlines(keepends=True) if not each.startswith(SPOKEN))
    after = listing(here)
    changed = {name for name in before if after.get(name) != before[name]}
    new = {name for name in after if name not in before}
    if changed:
        return f"inputs were changed: {sorted(changed)}"
    if status not in (0, 2):
        return f"exit status {status}: {err}"
    if status == 2:
        line = (
            err.startswith("transfuse: ")
            and err.endswith("\n")
            and err.count("\n") == 1
            and len(err) < MAX_ERROR_LENGTH + 20
        )
        left = [] if "out.work/.transfuse" in new else sorted(new)
        return f"left behind: {left}" if left else None if line and not out else f"not one line: {out!r} {err!r}"
    if err:
        return f"accepted, but on stderr: {err!r}"
    if arguments[0] != "fuse":
        return f"left behind: {sorted(new)}" if new else _no_document(out)
    return _unfit(new, here, out)


def _refuse(word: str) -> Any:
    raise AssertionError(f"{word} is no JSON")


def _no_document(out: str) -> str | None:
    try:
        json.loads(out, parse_constant=_refuse)
    except (ValueError, AssertionError) as error:
        return f"not one document ({error}): {out[:500]!r}"
    return None


def _unfit(new: set[str], here: Path, out: str) -> str | None:
    """What is wrong with an output; where it lies, standard output says."""
    target = here / out.removeprefix("Fused 2 models into ").rpartition(" (align")[0]
    outside = [
        name for name in new if not (here / name).is_relative_to(target) and not target.is_relative_to(here / name)
    ]
    if outside:
        return f"left behind: {outside}"
    try:
        load_model(target)
        json.loads((target / "transfuse.json").read_text(encoding="utf-8"), parse_constant=_refuse)
    except Exception as error:
        return f"an output that cannot be used: {error!r}"
    return None


def call(arguments: list[str]) -> tuple[object, str, str]:
    """Run `transfuse` here. Returns its status, or what it raised, and both streams, those of its libraries too."""
    given, sys.argv = sys.argv, ["transfuse", *arguments]
    status: object = 0
    with _streams() as (out, err), _limited():
        try:
            main()
        except SystemExit as ended:
            status = ended.code or 0
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            status = error
    sys.argv = given
    return status, out.getvalue(), err.getvalue()


@contextmanager
def _streams() -> Iterator[tuple[io.StringIO, io.StringIO]]:
    """Both streams, whoever writes to them: Python, or a library below it."""
    said = io.StringIO(), io.StringIO()
    kept = sys.stdout, sys.stderr, os.dup(1), os.dup(2)
    files = [tempfile.TemporaryFile("w+", encoding="utf-8", errors="backslashreplace", newline="") for _ in said]  # noqa: SIM115
    for number, file in enumerate(files, 1):
        os.dup2(file.fileno(), number)
    sys.stdout, sys.stderr = files
    try:
        yield said
    finally:
        sys.stdout, sys.stderr = kept[:2]
        for number, (old, file, text) in enumerate(zip(kept[2:], files, said, strict=True), 1):
            with suppress(ValueError):
                file.flush()
            os.dup2(old, number)
            os.close(old)
            file.seek(0)
            text.write(file.read())
            file.close()


@contextmanager
def _limited() -> Iterator[None]:
    def stop(*arguments: object) -> None:
        raise TooLong(f"more than {LIMIT} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
