"""Documents damaged at random: values, keys and structure of what JSON or YAML would hold, and the text itself."""

import copy
import json
import math
from collections.abc import Callable
from random import Random
from typing import Any

ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 7, 255, 2**31, 2**63, 10**30, -(2**63), -0.0, 0.5, 1e-30, 1e308, math.nan,
    math.inf, -math.inf, "", " ", "0", "1", "-1", "nan", "gelu", "relu", "float16", "default", "\x00", "\x1b[31m",
    "a\nb", "../x", "~", "/proc/self", "é\u202e\ud800", "<script>", "{{ 7 * 7 }}", "%s%n", "x" * 5000, [], {}, [[]],
    [None], [0], [1, 2], {"": None}, {"0": "x"}, {"a": {"b": [{}]}},
)  # fmt: skip
Change = Callable[[Random, Any, Any], Any]  # what becomes of a container and one of its keys or places


def mutated(rng: Random, tree: Any) -> Any:
    """A copy with one to three values replaced, dropped, renamed, doubled, wrapped or added."""
    found = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(found))
        if not places:
            return rng.choice(ODD)
        container, key = rng.choice(places)
        rng.choice(CHANGES)(rng, container, key)
    return found


def _places(tree: Any) -> Any:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(items):
        yield tree, key
        yield from _places(value)


def _replace(rng: Random, container: Any, key: Any) -> None:
    container[key] = copy.deepcopy(rng.choice(ODD))


def _drop(rng: Random, container: Any, key: Any) -> None:
    del container[key]


def _scale(rng: Random, container: Any, key: Any) -> None:
    value = container[key]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _retype(rng, container, key)
    container[key] = rng.choice((-value, value * 2, value + 1, value - 1, value / 2, value * 1000003, float(value)))


def _retype(rng: Random, container: Any, key: Any) -> None:
    value = container[key]
    container[key] = rng.choice(([value], {"value": value}, str(value), {str(value): value}, [value] * 3))


def _rename(rng: Random, container: Any, key: Any) -> None:
    if isinstance(container, dict):
        container[rng.choice((f"{key}_", str(key).upper(), "", "\x00", "__class__"))] = container.pop(key)
    else:
        container.insert(key, copy.deepcopy(container[key]))


def _add(rng: Random, container: Any, key: Any) -> None:
    if isinstance(container, dict):
        container[rng.choice(("auto_map", "dtype", "torch_dtype", "label", "x", "quantization_config"))] = rng.choice(
            ODD
        )
    else:
        container.append(copy.deepcopy(rng.choice(ODD)))


CHANGES: tuple[Change, ...] = (_replace, _replace, _replace, _drop, _scale, _retype, _rename, _add)


def spelled(rng: Random, tree: Any) -> bytes:
    """The tree as JSON; now and then with its text damaged, or with a key given twice."""
    text = json.dumps(tree, indent=rng.choice((None, 2)))
    fate = rng.random()
    if fate < 0.1 and text.startswith("{"):
        keys = list(tree) or ["x"]
        return f"{{{json.dumps(rng.choice(keys))}: {json.dumps(rng.choice(ODD))}, {text[1:]}".encode()
    return torn(rng, text.encode()) if fate < 0.3 else text.encode()


def torn(rng: Random, data: bytes) -> bytes:
    """Bytes cut off, flipped, put in, zeroed, or in another encoding; all of them, in the end, anything."""
    at = rng.randrange(len(data) + 1)
    flipped = bytearray(data)
    for _ in range(rng.choice((1, 2, 8)) if data else 0):
        flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return rng.choice((
        lambda: data[:at], lambda: bytes(flipped), lambda: bytes(flipped),
        lambda: data[:at] + rng.randbytes(5) + data[at:],
        lambda: data[:at] + bytes(len(data) - at), lambda: b"", lambda: b"\xef\xbb\xbf" + data,
        lambda: data.decode("utf-8", "replace").encode("utf-16"), lambda: data + data, lambda: b"[" * 100_000,
        lambda: b"\x00" * len(data), lambda: data[at:],
    ))()  # fmt: skip
