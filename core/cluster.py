"""The engine of `core.jobs` on a cluster: each piece a Ray task, its result sent back to this process."""

from __future__ import annotations

import logging
import os
import sys
import sysconfig
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from core.worker import DEATHS, Failure, attempt, outcome, pack, thread_limits


def outcomes(
    function: Callable[[Any], Any],
    todo: dict[str, Any],
    workers: int | None,
    threads: int,
    gpus: float,
    cluster: str,
) -> Generator[tuple[str, Any], None, None]:
    """Yields (key, result or Failure) for every piece of `todo`, in the order in which they land; see `core.jobs.run`.

    By default twice as many pieces are in flight as the cluster has room for. Ray's own retries are off: they would run
    a piece that kills its worker for ever, and count a lost node against a piece.
    """
    with _connected(function, cluster) as ray:
        yield from _tasks(ray, function, todo, workers, threads, gpus)


def _tasks(
    ray: Any, function: Callable, todo: dict[str, Any], workers: int | None, threads: int, gpus: float
) -> Iterator[tuple[str, Any]]:
    lost = ray.exceptions
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(node.get("CPU", 0) >= threads and node.get("GPU", 0) >= gpus for node in nodes):
        raise ValueError(f"no node of the cluster has {threads} CPUs and {gpus:g} GPUs, which a piece asks for.")
    limits = {"env_vars": thread_limits(threads)}
    task = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=0, runtime_env=limits)(attempt)
    deaths: Counter[str] = Counter()
    waiting = deque(todo)
    flying: dict[Any, str] = {}
    try:
        while waiting or flying:
            room = workers or 2 * max(1, int(ray.cluster_resources().get("CPU", 0) // threads))
            while waiting and len(flying) < room:
                name = waiting.popleft()
                flying[task.remote(pack(function, todo[name]))] = name
            for piece in ray.wait(list(flying), timeout=1)[0]:
                name = flying.pop(piece)
                try:
                    yield name, outcome(*ray.get(piece))
                except (lost.WorkerCrashedError, lost.OutOfMemoryError) as death:
                    deaths[name] += 1
                    if deaths[name] < DEATHS:
                        waiting.append(name)
                    else:
                        yield name, Failure.fatal(death)
                except (lost.NodeDiedError, lost.ObjectLostError):  # no fault of the piece
                    waiting.append(name)
                except lost.RayTaskError as error:  # its code is not to be found over there
                    yield name, Failure(str(error))
    finally:  # also on Ctrl-C
        for left in flying:
            with suppress(lost.RayError):
                ray.cancel(left, force=True)


@contextmanager
def _connected(function: Callable, cluster: str | None) -> Iterator[Any]:
    """Gives ray, connected; the code of `core` and of the function's package travels to the cluster from here."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise ValueError(
            "a cluster needs Ray, which is not installed: install the optional group `cluster`, "
            "or leave the cluster out to use this machine."
        ) from error
    if ray.is_initialized():  # the caller's own connection stays theirs
        yield ray
        return
    code = {"py_modules": _code(function), "excludes": ["**/__pycache__"]}
    try:
        ray.init(address=cluster, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR,
                 runtime_env=code)
    except ConnectionError as error:
        raise ValueError(
            f"there is no Ray cluster at {cluster!r}: start one with `ray start --head`, or leave the cluster out."
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _code(function: Callable) -> list[str]:
    """Returns the paths of what a node needs from here: the packages `core` and the function's, unless installed."""
    while isinstance(function, partial):
        function = function.func
    module = getattr(function, "__module__", None) or type(function).__module__
    if module == "__main__":  # a script's own name, where it has one
        module = getattr(sys.modules[module].__spec__, "name", module)
    installed = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib")]
    paths = []
    for top in sorted({"core", module.split(".")[0]} - {"__main__", "builtins"}):
        found = sys.modules[top]
        path = Path(next(iter(getattr(found, "__path__", [])), None) or found.__file__ or "").resolve()
        if not any(path.is_relative_to(folder) for folder in installed):
            paths.append(str(path))
    return paths
