"""From a frozen dataclass with presets to a command line; from an exception to one clear sentence."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import tyro

from core.files import owning, publishing

C = TypeVar("C")


def parse(presets: dict[str, tuple[str, C]], args: list[str] | None = None, *, prog: str, description: str) -> C:
    """Reads a config from the command line: a preset's name, then `--section.field value` for what differs.

    Args:
        presets: name -> (one sentence, config); configs are frozen dataclasses of one type.
        args: the words after the program's name; `sys.argv` by default.

    Raises:
        ValueError: if no preset has this name, with the nearest that there is.
    """
    name, *rest = (sys.argv[1:] if args is None else args) or [""]
    if name in presets:  # only its own flags are then known, and told of
        sentence, config = presets[name]
        return tyro.cli(type(config), default=config, args=rest, prog=f"{prog} {name}", description=sentence,
                        config=(tyro.conf.AvoidSubcommands,))
    if name in ("-h", "--help"):
        return tyro.extras.overridable_config_cli(presets, args=[name], prog=prog, description=description)
    near = difflib.get_close_matches(name, presets, 1)
    guess = f"did you mean {near[0]}? " if near else ""
    seen = f"{name!r} is no preset" if name else "a preset is missing"
    raise ValueError(f"{seen}; {guess}{prog} takes one of {', '.join(presets)}, then what differs from it")


def within(config: object, low: float, high: float, *names: str, of: str = "") -> None:
    """Refuses numbers of a config that are outside low..high or not finite; a `__post_init__` calls it.

    Args:
        of: what stands before the names on the command line, such as `fit.`.
    """
    for name in names:
        value = getattr(config, name)
        if not low <= value <= high or math.isinf(value):  # NaN lies nowhere
            most = f" and at most {high:g}" if high < math.inf else " and finite" if value == math.inf else ""
            raise ValueError(f"{of}{name} is {value:g}; it must be at least {low:g}{most}")


def main(function: Callable[[], object]) -> None:
    """Runs a program: bad input gives one sentence on stderr and exit code 2, Ctrl-C exit code 130."""
    try:
        function()
    except KeyboardInterrupt as stop:
        print(f"\n{str(stop) or 'interrupted; the same command goes on from what is done'}", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        sys.stderr.close()
        sys.exit(0)
    except (ValueError, OSError) as error:
        if isinstance(error, OSError) and error.filename:
            sentence = f"{error.filename}: {error.strerror}"
        else:
            sentence = str(error) or type(error).__name__
        print(f"error: {' '.join(sentence.split())}", file=sys.stderr)
        sys.exit(2)


def plain(config: object) -> dict[str, Any]:
    """A config as JSON knows it: dicts, lists, numbers and strings."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))  # type: ignore[call-overload]


def remember(config: object, out: Path, *, free: tuple[str, ...] = ("fit", "hardware", "out")) -> None:
    """Writes the resolved config as `out/config.json`; a run that goes on must have the same one.

    A training holds `out` by `core.files.owning` from here to its end, so that the config is always that of its run.

    Args:
        free: top-level fields that may differ when a run goes on.

    Raises:
        ValueError: naming the first field that differs from the run that `out` already holds, or if it is going on.
    """
    path = Path(out) / "config.json"
    values = plain(config)
    with owning(out):
        if path.exists() and (Path(out) / "last.pt").exists():
            try:
                before = dict(json.loads(path.read_text(encoding="utf-8")))
            except (ValueError, TypeError, RecursionError) as error:
                raise ValueError(f"{path} cannot be read ({error}); choose another folder with --out") from error
            for name in values:
                if name not in free and before.get(name) != values[name]:
                    raise ValueError(f"{out} holds a run with another {name} ({before.get(name)} there, {values[name]} "
                                     "asked for); choose another folder with --out, or delete that one")
        with publishing(path) as part:
            part.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
