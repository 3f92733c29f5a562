import errno
import os
import pickle
import random

import pytest
import torch

from core import checkpoint, files
from tests.core.training import same


def a_state(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "step": 7,
        "best": {"accuracy": 0.5, "nothing": None},
        "model": {"weight": torch.randn(20, 30, generator=generator), "count": torch.tensor(3)},
        "rates": [0.1, 0.2],
        "half": torch.randn(5, generator=generator).bfloat16(),
    }


def test_a_state_is_read_back_exactly(tmp_path):
    checkpoint.save(tmp_path / "new" / "last.pt", "toy", a_state())
    state = checkpoint.load(tmp_path / "new" / "last.pt", "toy")
    assert torch.equal(state["model"]["weight"], a_state()["model"]["weight"])
    assert torch.equal(state["half"], a_state()["half"])
    assert state["half"].dtype == torch.bfloat16
    assert (state["step"], state["best"], state["rates"]) == (7, {"accuracy": 0.5, "nothing": None}, [0.1, 0.2])
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["last.pt"]


def refused(path):
    with pytest.raises(ValueError, match=r"last\.pt is not a (readable )?run state") as caught:
        checkpoint.load(path, "toy")
    assert "\n" not in str(caught.value)


def test_a_truncated_state_is_refused_in_one_sentence(tmp_path):
    path = tmp_path / "last.pt"
    checkpoint.save(path, "toy", a_state())
    whole = path.read_bytes()
    for size in [0, 1, 2, 10, 100, len(whole) // 2, len(whole) - 100, len(whole) - 1]:
        path.write_bytes(whole[:size])
        refused(path)


def test_a_state_with_wrong_bytes_is_refused_or_is_the_same_state(tmp_path):
    """Some bytes of a zip file mean nothing; any other that is wrong is noticed, those of the weights too."""
    path = tmp_path / "last.pt"
    checkpoint.save(path, "toy", a_state())
    whole, chance = path.read_bytes(), random.Random(0)
    sentences = []
    for _ in range(300):
        wrong = bytearray(whole)
        for _ in range(chance.choice([1, 1, 5, 50])):
            wrong[chance.randrange(len(wrong))] = chance.randrange(256)
        path.write_bytes(bytes(wrong))
        try:
            assert same(checkpoint.load(path, "toy"), {"version": checkpoint.VERSION, "app": "toy", **a_state()})
        except ValueError as error:
            sentences.append(str(error))
    assert len(sentences) > 100
    assert all(sentence.startswith(str(path)) and "\n" not in sentence for sentence in sentences)


@pytest.mark.parametrize("content", [b"hello", b"\x80\x04N.", pickle.dumps({"step": 1}), b"PK\x03\x04" + bytes(50)])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "last.pt").write_bytes(content)
    refused(tmp_path / "last.pt")


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("dump", [torch.save, lambda bomb, path: path.write_bytes(pickle.dumps(bomb))])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path, dump):
    dump({"version": 1, "app": "toy", "step": Bomb(tmp_path / "ran")}, tmp_path / "last.pt")
    refused(tmp_path / "last.pt")
    assert not (tmp_path / "ran").exists()


def test_a_state_of_another_app_or_a_newer_version_or_of_nobody_is_refused(tmp_path):
    path = tmp_path / "last.pt"
    checkpoint.save(path, "go", {})
    with pytest.raises(ValueError, match="is a run of 'go', not of 'toy'"):
        checkpoint.load(path, "toy")
    torch.save({"version": checkpoint.VERSION + 1, "app": "toy"}, path)
    with pytest.raises(ValueError, match=rf"has format {checkpoint.VERSION + 1}, this program reads up to"):
        checkpoint.load(path, "toy")
    for version in ("9", None, [1], True):
        torch.save({"version": version, "app": "toy"}, path)
        with pytest.raises(ValueError, match="is not a run state of this project"):
            checkpoint.load(path, "toy")
    for stranger in ({"weight": torch.zeros(2)}, [1, 2], torch.zeros(2)):
        torch.save(stranger, path)
        with pytest.raises(ValueError, match="is not a run state of this project"):
            checkpoint.load(path, "toy")


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_disk_that_is_full_leaves_the_old_state_and_nothing_else(tmp_path, monkeypatch, name):
    path = tmp_path / "last.pt"
    checkpoint.save(path, "toy", a_state())
    before = path.read_bytes()

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, name, full)
        with pytest.raises(OSError, match=r"last\.pt cannot be written: No space left on device; free space"):
            checkpoint.save(path, "toy", a_state(1))
    assert path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_a_full_disk_is_told_while_torch_writes(tmp_path):
    """torch's own zip writer turns the error of the disk into one of its own."""

    class Full:
        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def flush(self):
            pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "write", lambda path, write_to: write_to(Full()))
        with pytest.raises(OSError) as caught:
            checkpoint.save(tmp_path / "last.pt", "toy", a_state())
    assert caught.value.errno == errno.ENOSPC


def test_what_a_killed_process_left_half_written_is_cleared_but_not_what_is_being_written(tmp_path):
    path = tmp_path / "last.pt"
    dead, living = tmp_path / ".last.pt.999999999.abc.part", tmp_path / f".last.pt.{os.getpid()}.abc.part"
    dead.touch()
    living.touch()
    with files.publishing(path) as part:
        part.write_text("new")
    assert path.read_text() == "new"
    assert not dead.exists()
    assert living.exists()


def test_an_error_while_writing_publishes_nothing(tmp_path):
    def fail(file):
        file.write(b"half")
        raise KeyError("column")

    with pytest.raises(KeyError):
        files.write(tmp_path / "table", fail)
    assert list(tmp_path.iterdir()) == []


def test_a_published_file_has_the_rights_of_any_other_new_file(tmp_path):
    (tmp_path / "plain").touch()
    files.write(tmp_path / "published", lambda file: file.write(b"x"))
    assert (tmp_path / "published").stat().st_mode == (tmp_path / "plain").stat().st_mode
