"""The house rules of CONTRIBUTING.md, kept by reading the tree."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = sorted(p.parent for p in (ROOT / "apps").glob("*/__init__.py"))
LISTING = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
TRACKED = [ROOT / name for name in LISTING.stdout.splitlines() if (ROOT / name).is_file()]
SOURCES = [p for p in TRACKED if p.suffix == ".py"]


def imports(path: Path) -> set[str]:
    """The modules a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


@pytest.mark.parametrize("room", ROOMS, ids=lambda p: p.name)
def test_every_room_has_the_same_first_rooms(room):
    wanted = {"__init__.py", "__main__.py", "model.py", "data.py", "train.py", "evaluate.py", "predict.py", "page.py",
              "weights.toml", "README.md"}
    assert wanted <= {p.name for p in room.iterdir()}


def test_no_drawer_for_odds_and_ends():
    drawers = {"utils", "util", "common", "helpers", "misc", "base"}
    assert not [p for p in SOURCES if p.stem in drawers]


def test_only_pages_know_streamlit():
    allowed = {ROOT / "streamlit_app.py", ROOT / "core" / "ui.py", *ROOT.glob("apps/*/page.py"),
               *ROOT.glob("cabinet/*.py"), *ROOT.glob("apps/*/viewer/*.py"), *ROOT.glob("tests/**/*.py")}
    guilty = [p for p in SOURCES if p not in allowed and any(m.split(".")[0] == "streamlit" for m in imports(p))]
    assert not guilty


def test_core_names_no_app_and_apps_do_not_know_each_other():
    for path in SOURCES:
        place = path.relative_to(ROOT).parts
        if place[0] == "core":
            assert not [m for m in imports(path) if m.split(".")[0] in ("apps", "data")], path
        if place[0] == "apps" and len(place) > 2:
            others = {room.name for room in ROOMS} - {place[1]}
            assert not [m for m in imports(path) if m.startswith("apps.") and m.split(".")[1] in others], path
        if place[0] not in ("data", "tests"):
            assert not [m for m in imports(path) if m.split(".")[0] == "data"], path


def test_pages_hold_no_maths():
    for page in ROOT.glob("apps/*/page.py"):
        assert not {m.split(".")[0] for m in imports(page)} & {"torch", "scipy", "sklearn", "timm"}, page


def test_nothing_names_a_place_outside_the_project():
    """No path of somebody's machine, no registry's host."""
    hosts = ["files." + "pythonhosted", "pypi" + ".org", "registry." + "npmjs"]
    for path in TRACKED:
        if path.suffix in {".py", ".md", ".toml", ".txt", ".lock", ".yml", ".json", ".js", ".css", ".html", ""}:
            text = path.read_text(encoding="utf-8", errors="ignore")
            assert not re.search(r"(?<![\w.])/(work|root|home)/\w", text), path
            assert not [h for h in hosts if h in text], path


def test_nothing_large_but_our_own_models():
    for path in TRACKED:
        limit = 16_000_000 if path.suffix == ".safetensors" else 1_000_000
        assert path.stat().st_size <= limit, path


def test_the_lock_pins_and_hashes_everything():
    blocks = re.split(r"\n(?=[a-z0-9])", (ROOT / "requirements.lock").read_text())
    pins = [b for b in blocks if re.match(r"[a-z0-9][\w.-]*==", b)]
    assert len(pins) > 50
    assert all("--hash=sha256:" in b for b in pins)


def test_inheritance_is_one_deep():
    """A class of ours has parents from libraries only (exceptions and protocols aside)."""
    ours = {node.name for p in SOURCES if p.parts[len(ROOT.parts)] in ("core", "apps")
            for node in ast.walk(ast.parse(p.read_text(encoding="utf-8"))) if isinstance(node, ast.ClassDef)}
    for path in SOURCES:
        if path.relative_to(ROOT).parts[0] not in ("core", "apps"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                parents = {ast.unparse(base) for base in node.bases}
                assert not parents & ours, f"{path}: {node.name} inherits from {parents & ours}"


def test_importing_an_app_costs_no_torch():
    code = "import sys, apps.pathology; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
