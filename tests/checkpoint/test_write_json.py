"""JSON files are replaced completely or not at all."""

import json
from pathlib import Path

import pytest
from outputs import tree

from transfuse.checkpoint.writing.output import write_json
from transfuse.errors import OutputError


def test_json_is_written_and_replaced(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"old": 1})
    write_json(tmp_path / "a.json", {"name": "é", "values": [1, 2.5, None]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"name": "é", "values": [1, 2.5, None]}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize(("obj", "error"), [({"a": object()}, TypeError), ([float("nan")], ValueError)])
def test_what_has_no_json_leaves_the_old(tmp_path: Path, obj: object, error: type[Exception]) -> None:
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(error):
        write_json(tmp_path / "a.json", obj)
    assert tree(tmp_path) == {"a.json": "1\n"}


def test_json_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "directory").mkdir()
    for path in (tmp_path / "file" / "a.json", tmp_path / "absent" / "a.json", tmp_path / "directory"):
        with pytest.raises(OutputError, match="cannot be written"):
            write_json(path, 1)
    assert tree(tmp_path) == {"file": "mine", "directory": None}
