"""Download one file: resumed when broken, verified, published whole or not at all, once for many processes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from urllib.request import url2pathname

import httpx
import platformdirs
from filelock import FileLock

Progress = Callable[[int, int], None]
PATIENCE = 60.0  # seconds: no server's Retry-After is obeyed for longer


class _Broken(Exception):
    """The connection ended too early, or the server asked to come again; trying again may help."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class _Anew(Exception):
    """What was kept of an earlier try does not fit what the server has now; start from the first byte."""


def cache_folder(*parts: str) -> Path:
    """Names a folder in the platform's cache, or under `WUNDERKAMMER_CACHE` where that is set; it may not exist."""
    root = os.environ.get("WUNDERKAMMER_CACHE") or platformdirs.user_cache_dir("wunderkammer", appauthor=False)
    return Path(root).expanduser().joinpath(*parts)


def fetch(
    url: str,
    to: Path,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    size: int | None = None,
    progress: Progress | None = None,
    retries: int = 5,
    pause: float = 1.0,
    timeout: float = 30.0,
    local: bool = False,
) -> Path:
    """Downloads `url` to the file `to` and returns it.

    A file that is there and passes the checks is not fetched again; without sha256, md5 and size any file passes.
    The download grows as `<to>.part`, goes on from there after a break or a crash, and becomes `to` only when whole and
    verified. A second process that wants the same file waits and then finds it.

    Args:
        size: length in bytes, if known; a server that has another length is refused before the download.
        progress: called as `progress(bytes done, bytes in all)`; 0 in all means the length is unknown.
        retries: tries in a row that bring no new byte before it gives up.
        pause: seconds before the second try; doubled after each one that brings nothing.
        timeout: seconds of silence after which a connection counts as broken.
        local: also take `file://` addresses and plain paths; off, for addresses can come from files of others.

    Raises:
        ValueError: if the address is none, the server refuses it, or what came is not what was expected.
        ConnectionError: if the server cannot be reached or keeps failing.
        OSError: if the folder cannot be written or the disk is full.
    """
    to = Path(to)
    checks = Checks(sha256, md5, size)
    if to.is_dir():
        raise IsADirectoryError(f"{to} is a folder; name the file to write")
    if checks.passes(to):
        return to
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(to.with_name(f".{to.name}.lock")):
            if checks.passes(to):  # another process was faster
                return to
            part = to.with_name(to.name + ".part")
            if urlsplit(url).scheme in ("http", "https"):
                _download(url, part, checks, progress, retries, pause, timeout)
            elif local:
                shutil.copyfile(_local_path(url), part)
                checks.demand(part, url)
            else:
                raise ValueError(f"{_shown(url)!r} is not an http(s) address; only those are fetched")
            _publish(part, to)
            return to
    except ConnectionError:
        raise
    except OSError as error:
        raise _explained(error, to) from error


class Checks:
    """What is known of a file before it is fetched."""

    def __init__(self, sha256: str | None = None, md5: str | None = None, size: int | None = None) -> None:
        self.hashes = {name: value.lower() for name, value in (("sha256", sha256), ("md5", md5)) if value}
        self.size = size

    def passes(self, path: Path) -> bool:
        """Says whether the file is there and is the one that was expected."""
        return path.is_file() and self._wrong(path) is None

    def demand(self, path: Path, source: str) -> None:
        """Deletes a file that is not the one that was expected, and says so in a `ValueError`."""
        if wrong := self._wrong(path):
            _forget(path)
            raise ValueError(
                f"{_shown(source)} gave another file than expected ({wrong}); nothing was kept. "
                "Try again, and if it stays so, the file was changed at its source: look for a newer address or hash"
            )

    def _wrong(self, path: Path) -> str | None:
        if self.size is not None and path.stat().st_size != self.size:
            return f"expected {self.size} bytes, seen {path.stat().st_size}"
        for name, expected in self.hashes.items():
            if (seen := digest(path, name)) != expected:
                return f"expected {name} {expected}, seen {seen}"
        return None


def digest(path: Path, name: str = "sha256") -> str:
    """Computes the hash of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, name).hexdigest()


def _download(
    url: str, part: Path, checks: Checks, progress: Progress | None, retries: int, pause: float, timeout: float
) -> None:
    """Brings `part` to its full length and verifies it, over as many connections as it takes."""
    furthest, barren, restarts = -1, 0, 0
    clean = False  # True once every byte in `part` came from this call
    with httpx.Client(follow_redirects=True, timeout=httpx.Timeout(timeout, connect=min(timeout, 10.0))) as client:
        while True:
            wait = None
            try:
                before = _length(part)
                clean = clean or before == 0
                _transfer(client, url, part, checks, progress)
                if not clean and not checks.passes(part):
                    raise _Anew  # two versions of the file, or an earlier crash, are mixed in it
                checks.demand(part, url)
                return
            except _Anew:
                restarts += 1
                if restarts > 2:
                    raise ValueError(
                        f"{_shown(url)} changes while it is downloaded; try again later or fetch it by hand"
                    ) from None
                _forget(part)
                clean = True
                continue
            except (_Broken, httpx.TransportError) as error:
                reason = str(error) or type(error).__name__
                wait = error.wait if isinstance(error, _Broken) else None
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise ValueError(f"{_shown(url)} cannot be fetched: {error}; check the address") from error
            have = _length(part)
            barren = 0 if have > furthest >= 0 else barren + 1
            furthest = max(furthest, have)
            if barren and checks.hashes and have and checks.passes(part):
                return  # the server promised more than there is, but all of it came
            if barren >= max(retries, 1):
                kept = f"; {have} bytes are kept and the next try goes on from there" if have else ""
                raise ConnectionError(
                    f"{_shown(url)} could not be fetched in {barren} tries ({reason}); check the connection{kept}"
                )
            time.sleep(min(pause * 2 ** max(barren - 1, 0) if wait is None else wait, PATIENCE))


def _transfer(client: httpx.Client, url: str, part: Path, checks: Checks, progress: Progress | None) -> None:
    """Opens one connection and appends what it brings to `part`; ends normally only at the end of the file."""
    headers = {"Accept-Encoding": "identity"}
    have, state = _length(part), _recall(part)
    validator = state.get("validator")
    if have and (state.get("url") != url or not (validator or checks.hashes)):
        _forget(part)
        have, state = 0, {}
    if have:
        headers["Range"] = f"bytes={have}-"
        if validator:
            headers["If-Range"] = validator
    with client.stream("GET", url, headers=headers) as reply:
        if reply.status_code == 416 and have:
            if _total(reply) == have and (checks.hashes or state.get("total") in (None, have)):
                return
            raise _Anew
        if reply.status_code == 206 and have:
            start = reply.headers.get("content-range", "").removeprefix("bytes ").split("-")[0]
            if start != str(have) or state.get("total") not in (None, _total(reply)):
                raise _Anew
        elif reply.status_code == 200:
            have = 0
        else:
            _refuse(reply, url)
        if reply.headers.get("content-encoding", "identity") != "identity" and not checks.hashes:
            raise ValueError(f"{_shown(url)} comes packed, and there is no hash to check it against; fetch it by hand")
        total = _total(reply)
        if checks.size is not None and total not in (None, checks.size):
            _forget(part)
            raise ValueError(
                f"{_shown(url)} has {total} bytes, {checks.size} were expected; the file was changed at its source"
            )
        room = shutil.disk_usage(part.parent).free
        if total is not None and total - have > room:
            raise OSError(errno.ENOSPC, f"{total - have} bytes are needed and {room} are free")
        if not have:
            _forget(part)  # in this order, so that a crash in between never pairs old bytes with new notes
            _remember(part, {"url": url, "validator": _validator(reply), "total": total})
        with open(part, "ab") as file:
            for chunk in reply.iter_raw():  # as it comes: a fixed size would lose the last bytes before a break
                file.write(chunk)
                have += len(chunk)
                if checks.size is not None and have > checks.size:
                    file.close()
                    _forget(part)
                    raise ValueError(f"{_shown(url)} sends more than the {checks.size} bytes expected; nothing is kept")
                if progress:
                    progress(have, total or checks.size or 0)
        if total is not None and have < total:
            raise _Broken(f"the server closed after {have} of {total} bytes")


def _refuse(reply: httpx.Response, url: str) -> None:
    """Turns a status that brings no file into a wait or an error."""
    status = reply.status_code
    if status in (408, 425, 429) or status >= 500:
        after = reply.headers.get("retry-after", "")
        raise _Broken(f"the server answered {status} {reply.reason_phrase}", float(after) if after.isdigit() else None)
    advice = {401: "it wants a login", 403: "it is forbidden", 404: "it is not there", 410: "it is gone"}
    raise ValueError(
        f"{_shown(url)} cannot be fetched: the server answered {status} {reply.reason_phrase}"
        f" ({advice.get(status, 'no file came')}); check the address"
    )


def _validator(reply: httpx.Response) -> str | None:
    """Gives what If-Range may hold: a strong ETag, else the date of the last change."""
    etag = reply.headers.get("etag", "")
    if etag and not etag.startswith("W/"):
        return etag
    return reply.headers.get("last-modified")


def _total(reply: httpx.Response) -> int | None:
    """Gives the length of the whole file by this reply's headers, None if they do not say."""
    if reply.status_code in (206, 416):
        last = reply.headers.get("content-range", "").rpartition("/")[2]
    else:
        last = reply.headers.get("content-length", "")
    return int(last) if last.isdigit() else None


def _length(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _notes(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _recall(part: Path) -> dict:
    try:
        state = json.loads(_notes(part).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _remember(part: Path, state: dict) -> None:
    _notes(part).write_text(json.dumps(state), encoding="utf-8")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _notes(part).unlink(missing_ok=True)


def _publish(part: Path, to: Path) -> None:
    with open(part, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(part, to)
    _notes(part).unlink(missing_ok=True)


def _local_path(url: str) -> Path:
    split = urlsplit(url)
    return Path(url2pathname(split.path)) if split.scheme == "file" else Path(url)


def _shown(url: str) -> str:
    """Gives the address without a password or a signed query, fit for a message."""
    split = urlsplit(str(url))
    return urlunsplit((split.scheme, split.netloc.rpartition("@")[2], split.path, "", ""))


def _explained(error: OSError, to: Path) -> OSError:
    """Says in one sentence why a file cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        text = f"no room for {to}: {error.strerror}; free some space, then the same command goes on from where it was"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
        text = f"{to.parent} cannot be written ({error.strerror}); choose another folder or set WUNDERKAMMER_CACHE"
    else:
        where = error.filename or to
        text = f"{where}: {error.strerror or error}"
    return type(error)(text)
