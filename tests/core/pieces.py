"""Work for the tests of processes: plain functions that a fresh interpreter can import."""

import hashlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

CACHE: list[int] = []


class Piece(NamedTuple):
    """A number, and the folder in which every execution leaves a mark."""

    number: int
    marks: Path
    seconds: float = 0.0


def key(piece: Piece) -> str:
    return f"piece-{piece.number:03d}.bin"


def write(path: Path, result: bytes) -> None:
    path.write_bytes(result)


def digest(piece: Piece) -> bytes:
    """Makes 3,200 bytes from the number alone; marks that it ran, and in which process."""
    (piece.marks / f"{piece.number}-{os.getpid()}-{time.monotonic_ns()}").touch()
    time.sleep(piece.seconds)
    return b"".join(hashlib.sha256(f"{piece.number} {part}".encode()).digest() for part in range(100))


def digest_but_seven_raises(piece: Piece) -> bytes:
    if piece.number == 7:
        raise ZeroDivisionError("seven is not wanted")
    return digest(piece)


def digest_but_seven_kills(piece: Piece) -> bytes:
    if piece.number == 7:
        (piece.marks / f"7-{time.monotonic_ns()}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return digest(piece)


def misbehave(how: str) -> object:
    """Does what a function in a worker should not do."""
    if how == "exit":
        sys.exit(3)
    if how == "lambda":
        return lambda: None
    if how == "print":
        print("a line between the answers")
        os.write(1, b"\x80\x04garbage")
    if how == "read":
        return sys.stdin.read()
    if how == "fork" and os.fork() == 0:
        time.sleep(600)
    return how


def environment(name: str) -> str | None:
    return os.environ.get(name)


def blank(size: int) -> bytes:
    return bytes(size)


def pid_after(seconds: float, marks: Path | None = None) -> int:
    if marks is not None:
        (marks / str(os.getpid())).touch()
    time.sleep(seconds)
    return os.getpid()


def count_to(total: int, seconds: float, progress: Any) -> int:
    for done in range(total + 1):
        progress(done, total)
        time.sleep(seconds)
    return total


def remembered(value: int) -> list[int]:
    CACHE.append(value)
    return CACHE


def refuse(kind: str) -> None:
    raise {"value": ValueError, "os": OSError, "key": KeyError}[kind]("3 eggs were seen, 2 wanted")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def digest_with_trouble(piece: Piece) -> bytes:
    """Seven kills its worker each time, eleven raises, twelve tells where its code came from."""
    if piece.number == 11:
        raise ZeroDivisionError("eleven is not wanted")
    if piece.number == 12:
        return __file__.encode()
    return digest_but_seven_kills(piece)
