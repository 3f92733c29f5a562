"""core.weights: every way to name weights, and the Hugging Face Hub played by a small server on this machine."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from core import card as cards
from core.weights import find, published, push, ship

ROOT = Path(__file__).parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """Speaks as much of the hub's protocol as one upload and one download need."""

    protocol_version = "HTTP/1.1"

    def answer(self, status: int, body: bytes | dict = b"", **headers: str) -> None:
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), "X-Repo-Commit": COMMIT, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def do_GET(self) -> None:
        hub = self.server
        hub.seen.append((self.command, self.path))
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
        if hub.status:
            self.answer(hub.status)
        elif self.path.startswith("/plain/"):
            self.answer(200, hub.files[self.path.removeprefix("/plain/")])
        elif not match or match[1] not in hub.repos:
            self.answer(404, X_Error_Code="RepoNotFound")
        elif match[2] not in ("main", "v1", COMMIT):
            self.answer(404, X_Error_Code="RevisionNotFound")
        elif match[3] not in hub.repos[match[1]]:
            self.answer(404, X_Error_Code="EntryNotFound")
        else:
            body = hub.repos[match[1]][match[3]]
            sha = hashlib.sha256(body).hexdigest()
            self.answer(200, hub.sends or body, ETag=f'"{sha}"', X_Linked_Etag=f'"{sha}"', X_Linked_Size=str(len(body)))

    do_HEAD = do_GET

    def do_POST(self) -> None:
        hub = self.server
        hub.seen.append((self.command, self.path))
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        here = f"http://127.0.0.1:{hub.server_port}"
        if self.headers.get("Authorization") != "Bearer hf_write":
            self.answer(401, {"error": "Invalid username or password."})
        elif self.path == "/api/repos/create":
            name = "{organization}/{name}".format(**json.loads(data))
            hub.private[name] = json.loads(data).get("visibility") == "private" or json.loads(data).get("private")
            status = 409 if name in hub.repos else 200
            hub.repos.setdefault(name, {})
            self.answer(status, {"url": f"{here}/{name}"})
        elif self.path == "/api/validate-yaml":
            self.answer(200, {"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = [{"path": f["path"], "shouldIgnore": False} for f in json.loads(data)["files"]]
            for file in files:
                file["uploadMode"] = "regular" if file["path"].endswith(".md") else "lfs"
            self.answer(200, {"files": files})
        elif self.path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**o, "actions": {"upload": {"href": f"{here}/lfs/{o['oid']}"}}} for o in json.loads(data)["objects"]
            ]
            self.answer(200, {"transfer": "basic", "objects": objects})
        elif "/commit/" in self.path:
            name = self.path.removeprefix("/api/models/").split("/commit/")[0]
            repo = hub.repos[name]
            for line in map(json.loads, data.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    repo[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    repo[value["path"]] = hub.blobs[value["oid"]]
            self.answer(200, {"success": True, "commitOid": COMMIT, "commitUrl": f"{here}/{name}/commit/{COMMIT}"})
        else:
            self.answer(404)

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        oid = self.path.removeprefix("/lfs/")
        assert hashlib.sha256(data).hexdigest() == oid
        self.server.blobs[oid] = data
        self.answer(200)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as made:
        made.repos, made.blobs, made.files, made.private, made.seen = {}, {}, {}, {}, []
        made.status, made.sends = 0, b""
        made.url = f"http://127.0.0.1:{made.server_port}"
        threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        monkeypatch.setenv("WUNDERKAMMER_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        yield made
        made.shutdown()


@pytest.fixture
def model(tmp_path) -> Path:
    card = cards.Card(
        app="toy", model={"width": 3}, data={"name": "Toy Set", "samples": 7}, step=40, licence="Apache-2.0",
        scores={"split": "test", "auroc": 0.975, "by_group": {"a": 0.9}, "shown": True}, date="2026-11-24", name="Tiny",
    )  # fmt: skip
    return cards.write(tmp_path / "made" / "toy.safetensors", {"w": torch.arange(6.0)}, card)


def with_card(path: Path, **changes) -> Path:
    """A model whose card holds these values; its app is that of `table`'s folder."""
    return cards.write(path, {"w": torch.arange(4.0)}, cards.Card(**{"app": "app", "model": {}, **changes}))


def write_table(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.toml").write_text(text)
    return folder / "weights.toml"


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def table(tmp_path, model) -> Path:
    inside = tmp_path / "app" / "weights" / "toy.safetensors"
    inside.parent.mkdir(parents=True)
    inside.write_bytes(model.read_bytes())
    return write_table(
        tmp_path / "app",
        f'[default]\nfile = "weights/toy.safetensors"\nsha256 = "{sha(model)}"\nbytes = {model.stat().st_size}\n'
        'licence = "Apache-2.0"\nscores = { auroc = 0.975 }\n'
        f'[large]\nurl = "http://127.0.0.1:9/plain/large.safetensors"\nsha256 = "{"0" * 64}"\n',
    )


def test_a_published_name_in_the_repository(table):
    path = find("default", app="toy", table=table)
    assert path == table.parent / "weights" / "toy.safetensors"
    entry = published(table)["default"]
    assert (entry.licence, entry.scores, entry.bytes) == ("Apache-2.0", {"auroc": 0.975}, path.stat().st_size)


def test_a_changed_or_missing_file_of_the_repository_is_refused(table):
    path = table.parent / "weights" / "toy.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(ValueError, match=r"sha256 differs.*git checkout"):
        find("default", app="toy", table=table)
    path.unlink()
    with pytest.raises(ValueError, match="is missing"):
        find("default", app="toy", table=table)


def test_a_name_with_an_address_is_fetched_once_into_the_cache(hub, model, tmp_path):
    hub.files["large.safetensors"] = model.read_bytes()
    table = write_table(
        tmp_path / "web", f'[large]\nurl = "{hub.url}/plain/large.safetensors"\nsha256 = "{sha(model)}"\n'
    )
    first, second = (find("large", app="toy", table=table) for _ in range(2))
    assert first == second
    assert first.is_relative_to(tmp_path / "cache" / "weights" / "toy")
    assert first.read_bytes() == model.read_bytes()
    assert len(hub.seen) == 1
    first.write_bytes(b"rotten")
    assert find("large", app="toy", table=table).read_bytes() == model.read_bytes()


def test_an_address_with_other_content_is_refused(hub, tmp_path):
    hub.files["large.safetensors"] = b"something else"
    table = write_table(tmp_path / "web", f'[m]\nurl = "{hub.url}/plain/large.safetensors"\nsha256 = "{"0" * 64}"\n')
    with pytest.raises(ValueError, match=f"expected sha256 {'0' * 64}, seen"):
        find("m", app="toy", table=table)
    assert [p for p in (tmp_path / "cache").rglob("*") if p.is_file() and not p.name.startswith(".")] == []


def test_offline_names_the_three_ways_out_and_the_third_works(hub, table, model, tmp_path):
    text = table.read_text().replace("0" * 64, sha(model))
    table.write_text(text)
    with pytest.raises(ConnectionError) as caught:
        find("large", app="toy", table=table)
    sentence = str(caught.value)
    assert re.search(r"\(1\).*: default;.*\(2\) download http://127.0.0.1:9/plain/large.*\(3\) set HF_END", sentence)
    path = Path(sentence.rpartition("put the file at ")[2])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.read_bytes())
    assert find("large", app="toy", table=table) == path


def test_a_file_and_a_run_folder(table, model, tmp_path):
    assert find(model, app="toy", table=table) == model
    assert find(str(model), app="toy", table=table) == model
    assert find(str(model.parent), app="toy", table=table) == model
    with pytest.raises(ValueError, match=r"holds no go\.safetensors"):
        find(model.parent, app="go", table=table)
    with pytest.raises(ValueError, match=r"is not there.*default, large"):
        find(tmp_path / "none.safetensors", app="toy", table=table)
    other = tmp_path / "photo.png"
    other.write_bytes(b"x")
    with pytest.raises(ValueError, match=r"no \.safetensors file"):
        find(other, app="toy", table=table)


@pytest.mark.parametrize("name", ["m.pt", "m.PTH", "m.bin", "last.ckpt", "m.pkl", "hf://o/r/m.bin", "hf://o/r/m.pt@v1"])
def test_pickles_are_never_read(table, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    if "/" not in name:
        Path(name).write_bytes(b"\x80\x04.")
    with pytest.raises(ValueError, match="safetensors file"):
        find(name, app="toy", table=table)


def test_an_unknown_name_lists_the_names_and_suggests_the_nearest(table, tmp_path):
    with pytest.raises(ValueError, match=r"no weights called 'defualt'; did you mean 'default'\? There are: def"):
        find("defualt", app="toy", table=table)
    with pytest.raises(ValueError, match="There are: default, large"):
        find("zzz", app="toy", table=table)
    with pytest.raises(ValueError, match="none is published yet"):
        find("default", app="toy", table=tmp_path / "no.toml")
    with pytest.raises(ValueError, match="cannot be verified"):
        find("https://host/m.safetensors", app="toy", table=table)


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ('file = "../../etc/passwd"', "outside"),
        ('file = "/etc/passwd"', "outside"),
        ('file = "C:\\\\x"', "outside"),
        ('url = "file:///etc/passwd"', "only http"),
        ('url = "/etc/passwd"', "only http"),
        ("", "file or a url"),
        ('file = "w"\ncolour = 3', "colour"),
        ('file = "w"\nsha256 = "12"', "64 hexadecimal|Cannot overwrite|cannot be read"),
        ("file = ", "cannot be read"),
    ],
)
def test_a_table_that_points_elsewhere_is_refused(tmp_path, entry, text):
    table = write_table(tmp_path / "bad", f'[m]\nsha256 = "{"0" * 64}"\n{entry}\n')
    with pytest.raises(ValueError, match=text):
        find("m", app="toy", table=table)


def test_a_short_hash_is_refused(tmp_path):
    table = write_table(tmp_path / "bad", '[m]\nfile = "w"\nsha256 = "12"\n')
    with pytest.raises(ValueError, match="64 hexadecimal"):
        published(table)


@pytest.mark.parametrize("tail", ["/toy.safetensors", "", "/toy.safetensors@v1", "@v1/toy.safetensors", "@v1"])
def test_the_hub_down(hub, table, model, tail):
    hub.repos["me/toy"] = {"toy.safetensors": model.read_bytes()}
    path = find("hf://me/toy" + tail, app="toy", table=table)
    assert path.read_bytes() == model.read_bytes()
    assert cards.read_card(path).name == "Tiny"
    hub.status = 500  # the hub goes away: the cache serves
    assert find("hf://me/toy" + tail, app="toy", table=table).read_bytes() == model.read_bytes()


def test_a_rotten_copy_in_the_cache_is_fetched_again(hub, table, model):
    hub.repos["me/toy"] = {"toy.safetensors": model.read_bytes()}
    path = find("hf://me/toy", app="toy", table=table)
    path.resolve().write_bytes(b"rotten")
    assert find("hf://me/toy", app="toy", table=table).read_bytes() == model.read_bytes()


def test_a_hub_that_lies_about_content_is_refused(hub, table, model):
    hub.repos["me/toy"] = {"toy.safetensors": model.read_bytes()}
    hub.sends = b"x" * model.stat().st_size
    with pytest.raises(ValueError, match="does not have the sha256"):
        find("hf://me/toy", app="toy", table=table)


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("hf://me/none", "no repository 'me/none'"),
        ("hf://me/toy/other.safetensors", "has no file 'other.safetensors'"),
        ("hf://me/toy@nope", "has no revision 'nope'"),
        ("hf://toy", "is not hf://owner/repo/file"),
        ("hf://me/toy/../../x.safetensors", "is not hf://owner/repo/file"),
        ("hf://me/toy/x.safetensors@../..", "is not hf://owner/repo/file"),
    ],
)
def test_wrong_addresses_of_the_hub(hub, table, model, address, text):
    hub.repos["me/toy"] = {"toy.safetensors": model.read_bytes()}
    with pytest.raises(ValueError, match=text):
        find(address, app="toy", table=table)


def test_the_hub_offline(hub, table, model, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match=r"Three ways out.*127.0.0.1:9/me/toy/resolve/main/toy") as caught:
        find("hf://me/toy", app="toy", table=table)
    by_hand = Path(str(caught.value).rpartition("put the file at ")[2])
    by_hand.parent.mkdir(parents=True)
    by_hand.write_bytes(model.read_bytes())
    assert find("hf://me/toy", app="toy", table=table) == by_hand


def test_a_published_name_on_the_hub_is_verified(hub, model, tmp_path):
    hub.repos["me/toy"] = {"toy.safetensors": model.read_bytes()}
    table = write_table(
        tmp_path / "web",
        f'[good]\nurl = "hf://me/toy"\nsha256 = "{sha(model)}"\n[bad]\nurl = "hf://me/toy"\nsha256 = "{"0" * 64}"\n',
    )
    assert find("good", app="toy", table=table).read_bytes() == model.read_bytes()
    with pytest.raises(ValueError, match="not the file that was published as 'bad'"):
        find("bad", app="toy", table=table)


def shell(*args: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "core.weights", *map(str, args)], cwd=ROOT, capture_output=True, text=True, timeout=120,
        env={**os.environ, "HF_HUB_DISABLE_XET": "1", **environment},
    )  # fmt: skip


def test_push_from_the_shell_and_load_back(hub, table, model):
    done = shell("push", model, "me/new", "--private", HF_TOKEN="hf_write")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(f"/commit/{COMMIT}")
    assert hub.private == {"me/new": True}
    assert find("hf://me/new", app="toy", table=table).read_bytes() == model.read_bytes()
    readme = hub.repos["me/new"]["README.md"].decode()
    from huggingface_hub import ModelCard

    meta = ModelCard(readme).data
    assert (meta.license, meta.library_name, meta.tags) == ("apache-2.0", "wunderkammer", ["wunderkammer", "toy"])
    assert {r.metric_type: r.metric_value for r in meta.eval_results} == {"auroc": 0.975, "by_group.a": 0.9}
    assert {r.dataset_name for r in meta.eval_results} == {"Toy Set"}
    assert 'toy.load("hf://me/new/toy.safetensors")' in readme
    assert "| auroc | 0.975 |" in readme


def test_push_without_a_right_to_write_and_without_a_hub(hub, model, monkeypatch):
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    with pytest.raises(ValueError, match=r"refuses to write me/new \(401\); set HF_TOKEN"):
        push(model, "me/new", token="hf_read")
    with pytest.raises(ValueError, match="not owner/repo"):
        push(model, "a/b/c", token="hf_write")
    with pytest.raises(ValueError, match=r"not a readable|not a file"):
        push(model.parent, "me/new", token="hf_write")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match="cannot be reached"):
        push(model, "me/new", token="hf_write")
    assert hub.repos == {}


def test_what_was_shipped_is_found_by_its_name(table, tmp_path):
    scores = {"val": {"auroc": 0.98765432, "n": 7, "p 50%": 0.5, "best": "high", "nan": float("nan"), "by": {"a": 1}},
              "words": {"a": "b"}, "split": "test"}  # fmt: skip
    made = with_card(tmp_path / "m.safetensors", scores=scores, licence='MIT "new"\n\t[x]')
    to = ship(made, table.parent, name="new-1")
    assert find("new-1", app="app", table=table) == to
    entry = published(table)["new-1"]
    assert entry.scores == {"val": {"auroc": 0.987654, "n": 7, "p 50%": 0.5}}  # numbers only
    assert entry.licence == 'MIT "new"\n\t[x]'
    assert published(table)["default"].scores == {"auroc": 0.975}
    assert find("default", app="toy", table=table).name == "toy.safetensors"
    assert list(published(table)) == ["default", "large", "new-1"]


@pytest.mark.parametrize(("name", "scores"), [
    ("../../../evil", {}), ("my model", {}), ("", {}), ("a.b", {}), ("/evil", {}), ("a\nb", {}),
    ("fine", {"my val": {"auroc": 0.5}}), ("fine", {"a]\n[b": {"auroc": 0.5}}),
])  # fmt: skip
def test_a_name_that_could_not_stand_in_the_table_ships_nothing(table, tmp_path, name, scores):
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    made = with_card(tmp_path / "m.safetensors", scores=scores)
    with pytest.raises(ValueError, match="can be no name"):
        ship(made, table.parent, name=name)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file() and p != made} == before


@pytest.mark.parametrize("call", [1, 2])
def test_when_one_of_the_two_files_cannot_be_written_the_old_pair_works(table, tmp_path, monkeypatch, call):
    ship(with_card(tmp_path / "old.safetensors", step=1), table.parent)
    old, calls, replace = find("default", app="app", table=table).read_bytes(), [], os.replace

    def fail(*paths):
        calls.append(paths)
        if len(calls) == call:
            raise OSError(28, "No space left on device")
        replace(*paths)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        ship(with_card(tmp_path / "new.safetensors", step=2), table.parent)
    assert len(calls) >= call
    assert find("default", app="app", table=table).read_bytes() == old


def test_what_is_no_name_is_told(table):
    for weights in (None, 5, "~nobody-of-this-name/x"):
        with pytest.raises(ValueError, match="names no weights"):
            find(weights, app="toy", table=table)


def test_show_prints_the_card_and_refuses_other_files(model):
    done = shell("show", model)
    assert done.returncode == 0
    assert "Tiny" in done.stdout
    assert "step 40, 2026-11-24, licence Apache-2.0" in done.stdout
    bad = shell("show", __file__)
    assert bad.returncode == 2
    assert bad.stderr.startswith("error: ")
    assert len(bad.stderr.strip().splitlines()) == 1
