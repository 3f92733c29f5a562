import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from filelock import FileLock

from core import cli
from core.files import owning


@dataclass(frozen=True)
class Steps:
    """How long."""

    steps: int = 100
    """Optimizer steps in all."""


@dataclass(frozen=True)
class Config:
    """Trains a toy."""

    out: Path = Path("runs/toy")
    """The run's folder."""
    width: int = 8
    """Channels of the net."""
    fit: Steps = field(default_factory=Steps)


PRESETS = {"tiny": ("Under ten seconds.", Config(fit=Steps(3))), "default": ("What is shipped.", Config())}


def parse(line):
    return cli.parse(PRESETS, line.split(), prog="python -m apps.toy.train", description="Trains a toy.")


def test_a_preset_and_what_differs_make_a_config():
    assert parse("tiny") == Config(fit=Steps(3))
    assert parse("default --fit.steps 7 --out elsewhere") == Config(Path("elsewhere"), 8, Steps(7))


def plain(text):
    return " ".join(re.sub(r"[^\x20-\x7e]", " ", re.sub(r"\x1b\[[0-9;]*m", "", text)).split())


def test_help_names_presets_and_every_field_with_its_sentence(capsys):
    with pytest.raises(SystemExit) as end:
        parse("--help")
    assert end.value.code == 0
    shown = plain(capsys.readouterr().out)
    assert "tiny" in shown
    assert "Under ten seconds." in shown
    with pytest.raises(SystemExit):
        parse("tiny --help")
    shown = plain(capsys.readouterr().out)
    for words in ("--fit.steps INT", "Optimizer steps in all.", "(default: 3)", "--out PATH", "Channels of the net."):
        assert words in shown


def test_a_wrong_flag_suggests_the_right_one_once(capsys):
    with pytest.raises(SystemExit) as end:
        parse("tiny --fit.step 3")
    assert end.value.code == 2
    said = plain(capsys.readouterr().err)
    assert said.count("--fit.steps INT") == said.count("Optimizer steps in all.") == 1
    assert "python -m apps.toy.train tiny --help" in said


def test_a_preset_that_is_not_there_names_the_nearest_and_those_that_are():
    with pytest.raises(ValueError, match=r"^'tinny' is no preset; did you mean tiny\? .* one of tiny, default,"):
        parse("tinny")
    with pytest.raises(ValueError, match=r"^a preset is missing; python -m apps\.toy\.train takes one of tiny,"):
        parse("")


@pytest.mark.parametrize(("value", "wanted"), [
    (-1, "at least 0 and at most 4"), (4.5, "at least 0 and at most 4"), (float("nan"), "at least 0 and at most 4")])
def test_a_number_outside_its_range_is_told_in_a_sentence(value, wanted):
    with pytest.raises(ValueError, match=rf"^toy\.width is {value:g}; it must be {wanted}$"):
        cli.within(Config(width=value), 0, 4, "width", of="toy.")
    cli.within(Config(width=4), 0, 4, "width")


def test_infinity_is_no_number_to_train_with():
    with pytest.raises(ValueError, match="width is inf; it must be at least 0 and finite"):
        cli.within(Config(width=float("inf")), 0, float("inf"), "width")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ValueError("3 eggs were seen,\n   2 wanted"), "error: 3 eggs were seen, 2 wanted"),
        (FileNotFoundError(2, "No such file or directory", "x.svs"), "error: x.svs: No such file or directory"),
        (OSError("the disk is full; free space"), "error: the disk is full; free space"),
        (ValueError(), "error: ValueError"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_two(capsys, error, sentence):
    def fail():
        raise error

    with pytest.raises(SystemExit) as end:
        cli.main(fail)
    assert end.value.code == 2
    assert capsys.readouterr().err == sentence + "\n"


def test_an_interrupt_is_exit_code_130_and_tells_what_it_told(capsys):
    for said in ((), ("stopped after step 3",)):

        def stop(said=said):
            raise KeyboardInterrupt(*said)

        with pytest.raises(SystemExit) as end:
            cli.main(stop)
        assert end.value.code == 130
        error = capsys.readouterr().err
        assert ("stopped after step 3" if said else "the same command goes on") in error


def test_an_error_of_ours_keeps_its_traceback():
    def fail():
        raise KeyError("bug")

    with pytest.raises(KeyError):
        cli.main(fail)


def test_the_config_lies_beside_the_run_and_another_one_is_refused(tmp_path):
    cli.remember(Config(tmp_path), tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == {
        "out": str(tmp_path), "width": 8, "fit": {"steps": 100}}  # fmt: skip
    cli.remember(Config(tmp_path, width=9), tmp_path)  # nothing was trained yet
    (tmp_path / "last.pt").touch()
    cli.remember(Config(tmp_path, width=9, fit=Steps(200)), tmp_path)
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(ValueError, match="holds a run with another width \\(9 there, 8 asked for\\); choose another"):
        cli.remember(Config(tmp_path), tmp_path)
    assert (tmp_path / "config.json").read_bytes() == before
    for damaged in ("{", "[1]", "5", "[" * 100_000):
        (tmp_path / "config.json").write_text(damaged)
        with pytest.raises(ValueError, match=r"config\.json cannot be read"):
            cli.remember(Config(tmp_path), tmp_path)


def test_a_run_that_is_going_on_keeps_its_config(tmp_path):
    with owning(tmp_path):
        cli.remember(Config(tmp_path), tmp_path)
    before = (tmp_path / "config.json").read_bytes()
    with FileLock(tmp_path / ".lock"), pytest.raises(ValueError, match="another training is writing into"):
        cli.remember(Config(tmp_path, width=9), tmp_path)
    assert (tmp_path / "config.json").read_bytes() == before
    cli.remember(Config(tmp_path, width=9), tmp_path)  # it has ended and left nothing
    assert (tmp_path / "config.json").read_bytes() != before
