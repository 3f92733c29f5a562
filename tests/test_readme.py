"""The README's commands do what it says, run as they stand there; long ones are stood in for by their first step."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.S)
SHELL = [line.split("  #")[0].strip() for kind, text in BLOCKS if kind == "sh" for line in text.splitlines() if line]
PYTHON = [line for line in SHELL if line.startswith(".venv/bin/python -m apps.")]


def run(command: str, timeout: int = 400) -> subprocess.CompletedProcess:
    return subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=timeout,
                          env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)


def test_the_first_screen_has_the_two_commands_and_a_picture():
    first = README.split("## ")[0]
    assert SHELL[:2] == ["make demo", "make test"]
    assert "make demo" in first
    picture = re.search(r"!\[.+?\]\((.+?)\)", first)
    assert picture
    assert (ROOT / picture[1]).is_file()


def test_make_does_what_the_readme_says_they_run():
    for target, runs in (("demo", "-m streamlit run streamlit_app.py"), ("test", "-m pytest")):
        done = run(f"make -n -o .venv/.ready {target}")
        assert done.returncode == 0, done.stderr
        assert runs in done.stdout


def test_links_lead_somewhere():
    for page in (ROOT / "README.md", ROOT / "apps" / "pathology" / "README.md"):
        for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page}: {link}"


@pytest.mark.parametrize("command", PYTHON)
def test_shell_commands_run(command, tmp_path):
    words = command.replace(".venv/bin/python", shlex.quote(sys.executable))
    words = words.replace("runs/slides", str(tmp_path / "slides"))
    if ".train " in words:
        words += f" --out {tmp_path / 'run'}"
    done = run(words)
    assert done.returncode == 0, done.stderr


def test_the_python_example_runs(tmp_path):
    (example,) = (text for kind, text in BLOCKS if kind == "python")
    done = subprocess.run([sys.executable, "-c", example.replace("runs/slide.geojson", str(tmp_path / "s.geojson"))],
                          cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    assert "FeatureCollection" in (tmp_path / "s.geojson").read_text()


def test_the_tables_are_those_of_the_results():
    """Every number of the table comes from results.json and the benchmarks' results by `evaluate table`."""
    import json

    from apps.pathology.report import linked, table

    text = table(json.loads((ROOT / "apps" / "pathology" / "results.json").read_text(encoding="utf-8")))
    for folder in (ROOT, ROOT / "apps" / "pathology"):
        assert linked(text, folder) in (folder / "README.md").read_text(encoding="utf-8")
