"""From a frozen dataclass with presets to a command line; from an exception to one clear sentence."""

from __future__ import annotations

import dataclasses
import json
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
    """
    return tyro.extras.overridable_config_cli(presets, args=args, prog=prog, description=description)


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
