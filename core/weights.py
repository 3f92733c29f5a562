"""From a name to a verified file of weights on this disk, and from a file to a repository on the Hugging Face Hub.

`python -m core.weights show FILE` prints a model's card, `push FILE owner/repo` publishes it, and
`ship FILE apps/x` makes it come with this repository.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from core.card import read_card
from core.checked import typed
from core.fetch import Checks, Progress, cache_folder, fetch
from core.files import publishing, write
from core.hub import Unreachable, describe, download, push

__all__ = ["Published", "find", "published", "push", "ship"]

PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".joblib")


@dataclass(frozen=True)
class Published:
    """One entry of an app's weights.toml: the table's name is the model's."""

    name: str
    """What `load` is given."""
    sha256: str
    """Of the file, in hexadecimal."""
    bytes: int | None = None
    """Length of the file."""
    file: str | None = None
    """Path relative to the folder of weights.toml, for weights that come with the repository."""
    url: str | None = None
    """An https or hf:// address, for weights that do not."""
    licence: str = ""
    """SPDX name of the weights' licence."""
    scores: dict[str, Any] = field(default_factory=dict)
    """Held-out scores as they were published."""


def published(table: Path) -> dict[str, Published]:
    """Reads weights.toml; keeps its order.

    Raises:
        ValueError: naming the entry, if one is incomplete or points outside the app's folder or the web.
    """
    try:
        return _entries(table.read_bytes(), table)
    except FileNotFoundError:
        return {}


def _entries(text: bytes, table: Path) -> dict[str, Published]:
    try:
        entries = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{table} cannot be read: {error}") from error
    result = {}
    for name, values in entries.items():
        try:
            entry = typed(Published, {**values, "name": name})
        except (TypeError, ValueError) as error:
            raise ValueError(f"{table}: [{name}] is not an entry with file or url, and sha256 ({error})") from error
        if not re.fullmatch(r"[0-9a-fA-F]{64}", str(entry.sha256)):
            raise ValueError(f"{table}: [{name}] needs a sha256 of 64 hexadecimal digits, not {entry.sha256!r}")
        if not (entry.file or entry.url):
            raise ValueError(f"{table}: [{name}] needs a file or a url")
        inside = PurePosixPath(entry.file or ".")
        if inside.is_absolute() or ".." in inside.parts or "\\" in str(inside) or ":" in str(inside):
            raise ValueError(f"{table}: [{name}] points outside its folder ({entry.file}); give a relative path in it")
        if entry.url and not entry.url.startswith(("https://", "http://", "hf://")):
            raise ValueError(f"{table}: [{name}] has the address {entry.url!r}; only http(s):// and hf:// are fetched")
        result[name] = entry
    return result


def find(weights: str | Path, *, app: str, table: Path, progress: Progress | None = None) -> Path:
    """Finds a model of `app` and returns a .safetensors file on this disk.

    Args:
        weights: a published name of `table`, a .safetensors file, a run's folder (which holds `<app>.safetensors`), or
            `hf://owner/repo/file`, with `@revision` after the repo or at the end if one is wanted. A name comes first.
        table: the app's weights.toml.

    Raises:
        ValueError: if nothing is meant by `weights`, or the file is not the published one.
        ConnectionError: if it must be fetched and cannot be; says the three ways out.
    """
    names = published(table)
    here = [name for name, entry in names.items() if entry.file]
    if isinstance(weights, str) and weights in names:
        return _published_file(names[weights], app, table, here, progress)
    if isinstance(weights, str) and weights.startswith("hf://"):
        return _from_hub(weights, app, here)
    if isinstance(weights, str) and re.match(r"[a-z+]+://", weights):
        raise ValueError(f"{weights!r} cannot be verified; download the file by hand and pass its path, or use hf://")
    try:
        path = Path(weights).expanduser()
    except (TypeError, RuntimeError) as error:  # it is no text, or it begins with a ~user who is not here
        raise ValueError(f"{weights!r} names no weights ({error}); pass a file or a name: {_listed(names)}") from error
    _refuse_pickle(path.name)
    if path.is_dir():
        if (inside := path / f"{app}.safetensors").is_file():
            return inside
        raise ValueError(f"{path} holds no {app}.safetensors; pass the folder of a run of {app}, or the file itself")
    if path.is_file():
        if path.suffix == ".safetensors":
            return path
        raise ValueError(f"{path} is no .safetensors file; pass one, or a published name: {_listed(names)}")
    if isinstance(weights, Path) or path.suffix or len(path.parts) > 1:
        raise ValueError(f"{path} is not there; pass a .safetensors file, a run's folder, or a name: {_listed(names)}")
    near = difflib.get_close_matches(str(weights), names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(f"{app} has no weights called {str(weights)!r}; {hint}There are: {_listed(names)}")


def _published_file(entry: Published, app: str, table: Path, here: list[str], progress: Progress | None) -> Path:
    checks = Checks(entry.sha256, None, entry.bytes)
    _refuse_pickle(entry.file or entry.url or "")
    if entry.file:
        path = table.parent / entry.file
        if checks.passes(path):
            return path
        if not entry.url:
            what = "is not the file that was published (its sha256 differs)" if path.is_file() else "is missing"
            raise ValueError(f"{path} {what}; get it again: git checkout -- {entry.file}")
    assert entry.url
    if entry.url.startswith("hf://"):
        path = _from_hub(entry.url, app, here)
        if not checks.passes(path):
            raise ValueError(f"{entry.url} is not the file that was published as {entry.name!r} (its sha256 differs)")
        return path
    to = cache_folder("weights", app, entry.sha256.lower()[:16], PurePosixPath(entry.url.split("?")[0]).name)
    try:
        return fetch(entry.url, to, sha256=entry.sha256, size=entry.bytes, progress=progress, retries=3)
    except ConnectionError as error:
        raise _offline(entry.name, app, here, entry.url, to, error) from error


def _from_hub(address: str, app: str, here: list[str]) -> Path:
    try:
        return download(address, app)
    except Unreachable as error:
        raise _offline(address, app, here, error.where, error.by_hand, error) from error


def _offline(what: str, app: str, here: list[str], where: str, to: Path, error: Exception) -> ConnectionError:
    reason = " ".join(str(error).split())[:160]
    listed = f": {', '.join(here)}" if here else ""
    return ConnectionError(
        f"the weights {what!r} of {app} could not be fetched ({reason}). Three ways out: "
        f"(1) use a published name that comes with the repository{listed}; "
        f"(2) download {where} by hand and pass the file's path; "
        f"(3) set HF_ENDPOINT or HTTPS_PROXY to what can be reached from here, or put the file at {to}"
    )


def _refuse_pickle(name: str) -> None:
    if name.lower().endswith(PICKLES):
        raise ValueError(f"{name} is a pickle, which can run code when it is read; pass a .safetensors file")


def _listed(names: dict[str, Published]) -> str:
    return ", ".join(names) or "none is published yet"


def ship(file: Path, room: Path, *, name: str = "default") -> Path:
    """Puts a model into its app's folder, where it comes with the repository, and its entry into weights.toml.

    Args:
        file: a model of that app.
        room: the app's folder, such as apps/pathology.
        name: its published name; an entry of that name is replaced.

    Raises:
        ValueError: if the file is no model of that app, or a name could not stand in weights.toml.
        OSError: if one of the two cannot be written; then both are as they were.
    """
    card = read_card(file)
    if card.app != room.name:
        raise ValueError(f"{file} is a model of {card.app!r}, not of {room.name!r}; pass the folder of its own app")
    scores = {split: numbers for split, values in card.scores.items()
              if isinstance(values, dict) and (numbers := {key: v for key, v in values.items() if _is_number(v)})}
    for word in (name, *scores):
        if not re.fullmatch(r"[A-Za-z0-9_-]+", word):
            raise ValueError(f"{word!r} can be no name in weights.toml; use letters, digits, _ and - only")
    data, to, table = file.read_bytes(), room / "weights" / f"{name}.safetensors", room / "weights.toml"
    entries = published(table)
    digest = hashlib.sha256(data).hexdigest()
    entries[name] = Published(name, digest, len(data), f"weights/{to.name}", None, card.licence, scores)
    text = _toml(entries).encode()
    _entries(text, table)  # what could not be read again is not written
    before = table.read_bytes() if table.exists() else b""
    try:
        with publishing(to) as part:
            part.write_bytes(data)
            write(table, lambda out: out.write(text))
    except BaseException:
        if table.exists() and table.read_bytes() != before:
            write(table, lambda out: out.write(before))
        raise
    return to


def _toml(entries: dict[str, Published]) -> str:
    lines = ["# Written by `python -m core.weights ship`.\n"]
    for entry in entries.values():
        lines.append(f"[{_key(entry.name)}]\n")
        for key in ("file", "url", "sha256", "bytes", "licence"):
            if (value := getattr(entry, key)) not in (None, ""):
                lines.append(f"{key} = {json.dumps(value, ensure_ascii=False)}\n")
        for split, values in entry.scores.items():
            lines.append(f"scores.{_key(split)} = {_inline(values)}\n")
    return "".join(lines)


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{_key(key)} = {_inline(part)}' for key, part in value.items())} }}"
    return f"{value:.6g}" if _is_number(value) else json.dumps(value, ensure_ascii=False)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _ship(file: Path, room: Path, name: str = "default") -> None:
    """Put a trained model into its app's folder, so that it comes with the repository.

    Args:
        file: a model of that app.
        room: the app's folder, such as apps/pathology.
        name: its published name.
    """
    print(ship(file, room, name=name))


def _show(file: Path) -> None:
    """Print the card of a model.

    Args:
        file: a .safetensors file of this project.
    """
    card = read_card(file)
    text = f"# {card.name or card.app}\n\n{describe(card)}"
    print("".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text), end="")


def _push(file: Path, repo: str, private: bool = False) -> None:
    """Upload a model, with a README made from its card, to the Hugging Face Hub.

    Args:
        file: a .safetensors file of this project.
        repo: owner/repo; made if it is not there.
        private: make it readable for its owner only.
    """
    print(push(file, repo, private=private))


def _main() -> None:
    import tyro

    tyro.extras.subcommand_cli_from_dict(
        {"show": _show, "push": _push, "ship": _ship},
        prog="python -m core.weights",
        description="Weights of models and their cards.",
        config=(tyro.conf.PositionalRequiredArgs,),
    )


if __name__ == "__main__":
    from core.cli import main

    main(_main)
