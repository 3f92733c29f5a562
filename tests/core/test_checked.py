"""What comes from files: right values pass unchanged, anything else is one sentence."""

import io
import json
import zipfile
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import pytest

from core.checked import arrays, typed


@dataclass(frozen=True)
class Toy:
    name: str
    width: int = 3
    rate: float = 0.5
    on: bool = False
    kind: Literal["a", "b"] = "a"
    size: int | None = None
    more: dict[str, Any] = field(default_factory=dict)


@pytest.mark.parametrize("toy", [Toy("x"), Toy("y", 5, 1, True, "b", 7, {"z": [None]})])
def test_right_values_pass(toy):
    assert typed(Toy, json.loads(json.dumps(asdict(toy)))) == toy


@pytest.mark.parametrize(("values", "says"), [
    ({}, "missing 1 required positional argument: 'name'"),
    ([1], r"\[1\] stands where"),
    ({"name": "x", "wings": 2}, "'wings' is not known"),
    ({"name": 5}, "name is 5, wanted str"),
    ({"name": "x", "width": True}, "width is True, wanted int"),
    ({"name": "x", "width": 3.0}, r"width is 3\.0, wanted int"),
    ({"name": "x", "rate": float("nan")}, "rate is nan, wanted float"),
    ({"name": "x", "rate": float("-inf")}, "rate is -inf"),
    ({"name": "x", "rate": 10**400}, r"rate is 10+\.\.\., wanted float"),
    ({"name": "x", "rate": [1, 2]}, r"rate is \[1, 2\]"),
    ({"name": "x", "on": 1}, "on is 1, wanted bool"),
    ({"name": "x", "kind": "c"}, "kind is 'c', wanted .*Literal"),
    ({"name": "x", "size": "7"}, "size is '7'"),
    ({"name": "x", "more": None}, "more is None, wanted dict"),
])
def test_wrong_values_are_named(values, says):
    with pytest.raises(ValueError, match=says):
        typed(Toy, values)


def claimed(n):
    """An array's file that claims n entries and has none."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": (n,)})
    return buffer.getvalue()


def zipped(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name + ".npy", content)
    return buffer.getvalue()


def saved(save=np.savez, **content):
    buffer = io.BytesIO()
    save(buffer, **content)
    return buffer.getvalue()


def test_an_npz_is_read_whole(tmp_path):
    (tmp_path / "a.npz").write_bytes(saved(x=np.arange(3), y=np.float32(2)))
    found = arrays(tmp_path / "a.npz", {"x": ("iu", 1)})
    assert found["x"].tolist() == [0, 1, 2]
    assert found["y"] == 2


@pytest.mark.parametrize(("content", "says"), [
    (b"", "not a readable npz"),
    (b"PK\x03\x04 no", "not a readable npz"),
    (saved(np.save, arr=np.zeros(3)), "not a readable npz"),
    (saved(x=np.array([{}], object)), "not a readable npz file .*[Oo]bject"),
    (zipped(x=claimed(10**13)), "not a readable npz"),
    (zipped(x=b"abc"), r"x is \|S3 of shape \(\)"),
    (saved(y=np.zeros(3)), r"lacks x \(it has y\)"),
    (saved(x=np.int64(3)), r"x is int64 of shape \(\)"),
    (saved(x=np.zeros(3)), "x is float64"),
    (saved(x=np.zeros((1, 3), int)), r"shape \(1, 3\)"),
])
def test_a_file_that_is_not_what_was_wanted_is_named(tmp_path, content, says):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match=says) as caught:
        arrays(tmp_path / "a.npz", {"x": ("iu", 1)})
    assert str(tmp_path / "a.npz") in str(caught.value)
