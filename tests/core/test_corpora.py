from pathlib import Path

import pytest

from core import corpora


def holds(home: Path) -> bool:
    return (home / "tiles.npz").exists()


def put(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "tiles.npz").touch()
    return folder


@pytest.fixture(autouse=True)
def bare(tmp_path, monkeypatch):
    monkeypatch.setattr(corpora, "DATA", tmp_path / "data")
    monkeypatch.delenv("WUNDERKAMMER_DATA", raising=False)


def test_what_is_given_wins_then_the_variable_then_the_project_then_the_sample(tmp_path, monkeypatch):
    sample = tmp_path / "data" / "pcam" / "sample"
    assert corpora.folder("pcam", "", holds) == sample
    ours = put(tmp_path / "data" / "pcam" / "raw")
    assert corpora.folder("pcam", "", holds) == ours
    elsewhere = put(tmp_path / "elsewhere" / "pcam")
    monkeypatch.setenv("WUNDERKAMMER_DATA", str(elsewhere.parent))
    assert corpora.folder("pcam", "", holds) == elsewhere
    given = put(tmp_path / "given")
    assert corpora.folder("pcam", given, holds) == given
    assert corpora.folder("pcam", "sample", holds) == sample


@pytest.mark.parametrize("way", ["variable", "given"])
def test_files_in_raw_where_prepare_puts_them_are_found(tmp_path, monkeypatch, way):
    raw = put(tmp_path / "elsewhere" / "pcam" / "raw")
    monkeypatch.setenv("WUNDERKAMMER_DATA", str(tmp_path / "elsewhere"))
    assert corpora.folder("pcam", raw.parent if way == "given" else "", holds) == raw


def test_a_folder_that_is_not_there_is_named(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"nowhere is not a folder; pass the folder that holds the pcam files"):
        corpora.folder("pcam", tmp_path / "nowhere", holds)
    monkeypatch.setenv("WUNDERKAMMER_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=r"has no folder pcam; set it to the one above pcam"):
        corpora.folder("pcam", "", holds)
    (tmp_path / "pcam").mkdir()  # empty: the reader then says what it wanted there
    assert corpora.folder("pcam", "", holds) == tmp_path / "pcam"
