"""core.fetch against a real server on this machine that breaks every promise a server can break."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from core.fetch import cache_folder, fetch

ROOT = Path(__file__).parents[2]
BODY = random.Random(1).randbytes(600_000)
SHA = hashlib.sha256(BODY).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.seen.append(self.headers.get("Range"))
        plan = self.server.plan
        status = plan.get("status", 200)
        if callable(status):
            status = status(len(self.server.seen))
        if status != 200:
            self.send_response(status)
            for name, value in plan.get("headers", {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body, start = plan.get("body", BODY), 0
        etag = plan.get("etag", '"one"')
        asked = self.headers.get("Range")
        same = self.headers.get("If-Range") in (None, etag)
        if asked and same and not plan.get("ignore_range"):
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            said = start + plan.get("shift", 0)
            self.send_header("Content-Range", f"bytes {said}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        if etag:
            self.send_header("ETag", etag)
        if plan.get("encoding"):
            self.send_header("Content-Encoding", plan["encoding"])
        length = len(body) - start + plan.get("lie", 0)
        if plan.get("chunked"):
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        piece = body[start:][: plan.get("drop_after", len(body))][:length]
        if plan.get("chunked"):
            for i in range(0, len(piece), 50_000):
                part = piece[i : i + 50_000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            if "drop_after" not in plan:
                self.wfile.write(b"0\r\n\r\n")
        else:
            for i in range(0, len(piece), 20_000):
                try:
                    self.wfile.write(piece[i : i + 20_000])
                except OSError:
                    return
                time.sleep(plan.get("slow", 0))
        if plan.get("changes_to"):
            self.server.plan = plan["changes_to"]
        self.close_connection = True

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        made.plan, made.seen = {}, []
        made.url = f"http://127.0.0.1:{made.server_port}/model.bin"
        threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield made
        made.shutdown()


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))


def test_a_file_comes_whole_with_progress(server, tmp_path):
    calls = []
    to = tmp_path / "deep" / "er" / "model.bin"
    assert fetch(server.url, to, sha256=SHA, progress=lambda *a: calls.append(a)) == to
    assert to.read_bytes() == BODY
    assert calls[-1] == (len(BODY), len(BODY))
    assert [a for a, _ in calls] == sorted({a for a, _ in calls})
    assert leftovers(to.parent) == ["model.bin"]


def test_a_verified_file_is_not_fetched_again_and_a_wrong_one_is(server, tmp_path):
    to = tmp_path / "model.bin"
    to.write_bytes(BODY)
    fetch(server.url, to, sha256=SHA)
    assert server.seen == []
    to.write_bytes(BODY[:-1] + b"!")
    fetch(server.url, to, sha256=SHA)
    assert to.read_bytes() == BODY
    assert len(server.seen) == 1


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("checked", [False, True])
def test_dropped_connections_are_resumed(server, tmp_path, chunked, checked):
    server.plan = {"drop_after": 150_000, "chunked": chunked}
    if chunked:  # only a server that says the length can be resumed by chunks here
        server.plan["changes_to"] = {"chunked": True}
    to = fetch(server.url, tmp_path / "m", sha256=SHA if checked else None, pause=0.01)
    assert to.read_bytes() == BODY
    assert server.seen == [None, *(f"bytes={n}-" for n in range(150_000, 600_000 if not chunked else 150_001, 150_000))]
    assert leftovers(tmp_path) == ["m"]


def test_a_server_that_drops_and_ignores_range_is_given_up_in_bounded_time(server, tmp_path):
    server.plan = {"drop_after": 150_000, "ignore_range": True}
    with pytest.raises(ConnectionError, match=r"in 3 tries .*150000 bytes are kept"):
        fetch(server.url, tmp_path / "m", pause=0.01, retries=3)
    assert not (tmp_path / "m").exists()
    server.plan = {"ignore_range": True}  # healthy again: whole, not 150000 bytes twice
    assert fetch(server.url, tmp_path / "m").read_bytes() == BODY


def test_content_that_changes_between_two_tries_is_never_mixed(server, tmp_path):
    other = BODY[::-1]
    server.plan = {"drop_after": 150_000, "changes_to": {"body": other, "etag": '"two"'}}
    assert fetch(server.url, tmp_path / "m", pause=0.01).read_bytes() == other
    assert server.seen[1] == "bytes=150000-"  # it did ask to go on; If-Range made the server send all


def test_content_that_changes_without_an_etag_is_caught_by_the_hash(server, tmp_path):
    to = tmp_path / "m"
    server.plan = {"drop_after": 150_000, "etag": None, "body": BODY[::-1]}
    with pytest.raises(ConnectionError):
        fetch(server.url, to, sha256=SHA, retries=1, pause=0.01)  # leaves half of the other file
    server.plan = {"etag": None}
    assert fetch(server.url, to, sha256=SHA).read_bytes() == BODY
    assert server.seen[-2].startswith("bytes=")
    assert server.seen[-1] is None


def test_without_etag_and_hash_nothing_is_resumed(server, tmp_path):
    server.plan = {"drop_after": 150_000, "etag": None, "changes_to": {"etag": None}}
    assert fetch(server.url, tmp_path / "m", pause=0.01).read_bytes() == BODY
    assert server.seen == [None, None]


def test_a_range_that_starts_elsewhere_is_not_appended(server, tmp_path):
    server.plan = {"drop_after": 150_000, "changes_to": {"shift": 7, "changes_to": {"shift": 7}}}
    assert fetch(server.url, tmp_path / "m", pause=0.01).read_bytes() == BODY
    assert server.seen == [None, "bytes=150000-", None]


def test_a_part_that_is_already_whole_is_published(server, tmp_path):
    (tmp_path / "m.part").write_bytes(BODY)
    (tmp_path / "m.part.json").write_text(json.dumps({"url": server.url, "validator": '"one"', "total": len(BODY)}))
    assert fetch(server.url, tmp_path / "m", sha256=SHA).read_bytes() == BODY
    assert server.seen == ["bytes=600000-"]
    assert leftovers(tmp_path) == ["m"]


def test_a_part_of_another_address_is_thrown_away(server, tmp_path):
    (tmp_path / "m.part").write_bytes(b"x" * 1000)
    (tmp_path / "m.part.json").write_text(json.dumps({"url": "http://other/", "validator": '"one"', "total": 9000}))
    assert fetch(server.url, tmp_path / "m").read_bytes() == BODY
    assert server.seen == [None]


@pytest.mark.parametrize("how", ["sha256", "md5"])
def test_wrong_content_is_never_published_and_both_hashes_are_named(server, tmp_path, how):
    server.plan = {"body": b"<html>please log in</html>"}
    expected = hashlib.new(how, BODY).hexdigest()
    seen = hashlib.new(how, server.plan["body"]).hexdigest()
    with pytest.raises(ValueError, match=f"expected {how} {expected}, seen {seen}.*Try again"):
        fetch(server.url, tmp_path / "m", **{how: expected})
    assert leftovers(tmp_path) == []


def test_a_promise_of_too_few_bytes_is_caught(server, tmp_path):
    server.plan = {"lie": -1000}
    with pytest.raises(ValueError, match="seen"):
        fetch(server.url, tmp_path / "m", sha256=SHA)
    with pytest.raises(ValueError, match="has 599000 bytes, 600000 were expected"):
        fetch(server.url, tmp_path / "m", size=len(BODY))
    assert leftovers(tmp_path) == []


def test_a_promise_of_too_many_bytes_is_forgiven_only_if_the_hash_is_right(server, tmp_path):
    server.plan = {"lie": 5}
    assert fetch(server.url, tmp_path / "m", sha256=SHA, pause=0.01).read_bytes() == BODY
    with pytest.raises((ConnectionError, ValueError)):
        fetch(server.url, tmp_path / "n", pause=0.01, retries=2)
    assert not (tmp_path / "n").exists()


def test_a_stream_without_end_stops_at_the_expected_size(server, tmp_path):
    server.plan = {"chunked": True, "body": BODY * 5}
    with pytest.raises(ValueError, match="more than the 600000 bytes"):
        fetch(server.url, tmp_path / "m", size=len(BODY))
    assert leftovers(tmp_path) == []


def test_packed_content_needs_a_hash(server, tmp_path):
    server.plan = {"encoding": "gzip"}
    with pytest.raises(ValueError, match="comes packed"):
        fetch(server.url, tmp_path / "m")
    assert fetch(server.url, tmp_path / "m", sha256=SHA).read_bytes() == BODY


@pytest.mark.parametrize(("status", "text"), [(404, "it is not there"), (403, "forbidden"), (401, "login")])
def test_a_refusal_is_one_sentence_at_once(server, tmp_path, status, text):
    server.plan = {"status": status}
    with pytest.raises(ValueError, match=text):
        fetch(server.url, tmp_path / "m")
    assert len(server.seen) == 1
    assert leftovers(tmp_path) == []


def test_a_failing_server_is_tried_again_and_then_named(server, tmp_path):
    server.plan = {"status": lambda n: 500 if n < 3 else 200}
    assert fetch(server.url, tmp_path / "m", pause=0.01).read_bytes() == BODY
    server.plan = {"status": 503}
    with pytest.raises(ConnectionError, match=r"in 3 tries .*503"):
        fetch(server.url, tmp_path / "n", pause=0.01, retries=3)


def test_retry_after_is_obeyed(server, tmp_path):
    server.plan = {"status": lambda n: 429 if n == 1 else 200, "headers": {"Retry-After": "1"}}
    start = time.monotonic()
    fetch(server.url, tmp_path / "m", pause=0.0)
    assert time.monotonic() - start >= 1


def test_nobody_at_home(tmp_path):
    with pytest.raises(ConnectionError, match="check the connection"):
        fetch("http://127.0.0.1:9/x", tmp_path / "m", retries=2, pause=0.01)


def test_a_password_in_the_address_is_not_repeated(server, tmp_path):
    server.plan = {"status": 404}
    with pytest.raises(ValueError) as error:
        fetch(server.url.replace("//", "//me:secret@") + "?token=hush", tmp_path / "m")
    assert "secret" not in str(error.value)
    assert "hush" not in str(error.value)


@pytest.mark.parametrize("make", [str, Path.as_uri])
def test_local_addresses_are_followed_only_when_asked(tmp_path, make):
    source = tmp_path / "s p.bin"
    source.write_bytes(BODY)
    with pytest.raises(ValueError, match="not an http"):
        fetch(make(source), tmp_path / "m")
    assert fetch(make(source), tmp_path / "m", local=True, sha256=SHA).read_bytes() == BODY
    with pytest.raises(ValueError, match="seen"):
        fetch(make(source), tmp_path / "n", local=True, sha256="0" * 64)
    assert source.exists()
    assert not (tmp_path / "n").exists()


def test_other_schemes_are_refused(tmp_path):
    for url in ("ftp://host/x", "data:,x", "", "model.bin"):
        with pytest.raises(ValueError, match="not an http"):
            fetch(url, tmp_path / "m")


def test_more_than_the_disk_holds_is_refused_before_the_download(server, tmp_path):
    server.plan = {"lie": 1 << 60}
    with pytest.raises(OSError, match=r"no room for .*free some space"):
        fetch(server.url, tmp_path / "m")
    assert leftovers(tmp_path) == []


def test_a_full_disk_is_one_sentence_and_the_rest_comes_later(server, tmp_path):
    code = (
        "import resource, sys; from core.fetch import fetch;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))\n"
        "try: fetch(sys.argv[1], sys.argv[2])\n"
        "except OSError as e: print(e)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, server.url, str(tmp_path / "m")], cwd=ROOT, capture_output=True, text=True
    )
    assert run.stdout.startswith(f"no room for {tmp_path / 'm'}"), run.stderr
    assert not (tmp_path / "m").exists()
    assert fetch(server.url, tmp_path / "m", sha256=SHA).read_bytes() == BODY
    assert server.seen == [None, "bytes=200000-"]


def test_a_folder_that_cannot_be_written_is_one_sentence(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot be written"):
        fetch(server.url, tmp_path / "file" / "m")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        fetch(server.url, tmp_path)
    if os.geteuid() != 0:
        (tmp_path / "locked").mkdir(mode=0o500)
        with pytest.raises(PermissionError, match="cannot be written"):
            fetch(server.url, tmp_path / "locked" / "m")
    assert server.seen == []


def test_two_processes_share_one_download(server, tmp_path):
    server.plan = {"slow": 0.01}
    code = "import sys; from core.fetch import fetch; fetch(sys.argv[1], sys.argv[2], sha256=sys.argv[3])"
    command = [sys.executable, "-c", code, server.url, str(tmp_path / "m"), SHA]
    both = [subprocess.Popen(command, cwd=ROOT) for _ in range(2)]
    assert [p.wait(60) for p in both] == [0, 0]
    assert server.seen == [None]
    assert (tmp_path / "m").read_bytes() == BODY


def test_threads_of_one_process_share_one_download(server, tmp_path):
    server.plan = {"slow": 0.005}
    threads = [threading.Thread(target=fetch, args=(server.url, tmp_path / "m")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert server.seen == [None]


def test_a_killed_download_goes_on_where_it_was(server, tmp_path):
    server.plan = {"slow": 0.1}
    code = "import sys; from core.fetch import fetch; fetch(sys.argv[1], sys.argv[2])"
    process = subprocess.Popen([sys.executable, "-c", code, server.url, str(tmp_path / "m")], cwd=ROOT)
    part = tmp_path / "m.part"
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    have = part.stat().st_size
    assert 0 < have < len(BODY)
    assert not (tmp_path / "m").exists()
    server.plan = {}
    assert fetch(server.url, tmp_path / "m", sha256=SHA).read_bytes() == BODY
    assert server.seen == [None, f"bytes={have}-"]


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("WUNDERKAMMER_CACHE", str(tmp_path))
    assert cache_folder("weights", "pathology") == tmp_path / "weights" / "pathology"
    monkeypatch.delenv("WUNDERKAMMER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    if sys.platform == "linux":
        assert cache_folder("a") == tmp_path / "xdg" / "wunderkammer" / "a"
    assert "wunderkammer" in str(cache_folder())
