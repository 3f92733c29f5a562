"""What all tests share: where real data lies, and a closing line that says which part ran."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def _real_data() -> Path | None:
    named = os.environ.get("WUNDERKAMMER_DATA")
    for place in (Path(named) if named else None, ROOT.parent / "shared" / "data"):
        if place and (place / "pcam" / "pcam_test.npz").exists():
            return place.resolve()
    return None


REAL_DATA = _real_data()
# A test sees the project as it is right after a clone, unless it asks for the real data.
os.environ.pop("WUNDERKAMMER_DATA", None)


@pytest.fixture(scope="session")
def real_data_root() -> Path:
    """The folder of real data; only for tests marked `real_data`."""
    assert REAL_DATA is not None
    return REAL_DATA


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests neither read nor fill the user's cache."""
    os.environ["WUNDERKAMMER_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def ray_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder of Ray's own with a short name (its sockets need that), so that no other cluster here is met."""
    folder = tempfile.mkdtemp(prefix="ray")
    monkeypatch.setenv("RAY_TMPDIR", folder)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    yield
    shutil.rmtree(folder, ignore_errors=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if REAL_DATA is None:
        real = [item for item in items if item.get_closest_marker("real_data")]
        config.hook.pytest_deselected(items=real)
        items[:] = [item for item in items if item not in real]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    done = [r for key in ("passed", "failed") for r in terminalreporter.stats.get(key, [])]
    real = sum("real_data" in report.keywords for report in done)
    if REAL_DATA is None:
        terminalreporter.write_line("real data: none found (WUNDERKAMMER_DATA is not set), so only tests on samples "
                                    "that the project makes itself ran")
    else:
        terminalreporter.write_line(f"real data: found, {real} tests on real tiles, slides and the shipped model ran "
                                    f"beside {len(done) - real} on own samples")
