"""fit(): the one training loop."""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from core import checkpoint
from core.cli import within
from core.files import owning
from core.log import Log, Progress
from core.metrics import Means
from core.optim import Average, Schedule, constant
from core.runtime import Runtime

Loss = Callable[[nn.Module, Any], tuple[Tensor, dict[str, Tensor]]]
Scores = dict[str, float]


@dataclass(frozen=True)
class Fit:
    """How long to train, and how often to look up from it. All is counted in optimizer steps."""

    steps: int = 1000
    """Optimizer steps in all, those of an interrupted run included."""
    accumulate: int = 1
    """Parts into which a batch is cut to save memory; the gradient is that of the whole batch, but for batch norm,
    which sees each part by itself."""
    clip: float = 0.0
    """Largest norm of the gradient; 0 does not clip."""
    average: float = 0.0
    """Decay of the moving average of the weights, which is then evaluated and kept; 0 keeps none."""
    log_every: int = 20
    """Steps between two records of the training loss."""
    evaluate_every: int = 0
    """Steps between two evaluations; 0 evaluates at the end only."""
    save_every: int = 200
    """Steps between two saves of the run: the most that a crash can cost."""
    tensorboard: bool = False
    """Write TensorBoard event files beside log.jsonl."""

    def __post_init__(self) -> None:
        within(self, 1, math.inf, "steps", "accumulate", "log_every", "save_every", of="fit.")
        within(self, 0, math.inf, "clip", "evaluate_every", of="fit.")
        within(self, 0, 1 - 1e-6, "average", of="fit.")


def fit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Callable[[int], Iterator[Any]],
    loss_fn: Loss,
    *,
    app: str,
    out: Path,
    runtime: Runtime,
    options: Fit,
    schedule: Schedule | None = None,
    evaluate: Callable[[nn.Module], Scores] | None = None,
    better: Callable[[Scores, Scores], bool] = lambda new, best: True,
    keep: Callable[[nn.Module, int, Scores], None] | None = None,
) -> Scores:
    """Trains a model, and goes on where it stopped if `out` holds a run.

    Interrupted at any instant it loses at most `save_every` steps, and then ends with the same bits.

    Args:
        model: the net, placed on the runtime's device; it holds the last step's weights afterwards.
        optimizer: over the model's parameters; `schedule` scales each group's own learning rate.
        batches: `batches(step)` yields this rank's part of each global batch from that step on.
        loss_fn: from (model, batch) to the mean loss over the batch and named values worth logging.
        app: written into the run state, so that one app never continues another's run.
        out: the run's folder: last.pt, log.jsonl, times.jsonl.
        schedule: factor of the learning rate as a function of the step, from 0.
        evaluate: from the model (the averaged one if there is one) to named scores, the same on every rank.
        better: whether new scores beat the best ones so far.
        keep: called on the first rank with model, steps done and scores whenever the scores are the best so far;
            without `evaluate`, once at the end.

    Returns:
        The best scores, empty without `evaluate`.

    Raises:
        ValueError: if the loss is not finite (with step, learning rate and last good state; on a GPU the step at which
            it was seen, up to `log_every` later), or if `out` holds another app's run, a damaged state, or a training
            that is still going on.
        KeyboardInterrupt: after saving, on Ctrl-C or SIGTERM.
    """
    state_path = Path(out) / "last.pt"
    schedule = schedule or constant()
    average = Average(model, options.average) if options.average else None
    kept = average.model if average else model
    rates = [group["lr"] for group in optimizer.param_groups]
    best: Scores = {}
    step, means = 0, Means()

    def save() -> None:
        means.merge(runtime)
        if runtime.first:
            checkpoint.save(state_path, app, {
                "step": step, "best": best, "means": means.state(), "model": model.state_dict(),
                "optimizer": optimizer.state_dict(), "average": average and average.model.state_dict()})

    with owning(out) if runtime.first else nullcontext(), _interrupts() as interrupted:
        # Read by the first rank for all: the others may be on machines that do not share its disk.
        state = runtime.from_first(checkpoint.load(state_path, app) if runtime.first and state_path.exists() else None)
        if state:
            step, best, kept_means = _restore(state_path, state, model, optimizer, average)
            means = kept_means if runtime.first else means
            if step >= options.steps and runtime.first:
                print(f"{out} is at step {step} of {options.steps}: there is nothing left to train", file=sys.stderr)
        net: Any = torch.compile(model) if runtime.compile else model
        net = DistributedDataParallel(net) if runtime.world > 1 else net
        stream = batches(step) if step < options.steps else iter(())
        clock = _Clock()

        with (Log(Path(out) if runtime.first else None, step, tensorboard=options.tensorboard) as log,
              Progress(options.steps, app, "step", start=step, disable=not runtime.first) as bar):
            model.train()
            while step < options.steps:
                with clock.waiting():
                    batch = runtime.to_device(next(stream))
                runtime.reseed(step)
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * schedule(step)

                for part, share, last in _parts(batch, options.accumulate):
                    with nullcontext() if last or runtime.world == 1 else net.no_sync():
                        with runtime.precision():
                            loss, values = loss_fn(net, part)
                        (loss if share == 1 else loss * share).backward()
                    means.add({"loss": loss, **values}, share)
                if options.clip:
                    means.add({"gradient_norm": nn.utils.clip_grad_norm_(model.parameters(), options.clip)})
                optimizer.step()
                optimizer.zero_grad()
                if average:
                    average.update(model, step)
                step += 1

                logs = _due(step, options.log_every, options.steps)
                evaluates = evaluate and _due(step, options.evaluate_every, options.steps)
                stop = runtime.any(interrupted())
                saves = stop or bool(evaluates) or _due(step, options.save_every, options.steps)
                # To look at a number is to wait for the GPU; on a CPU every step's loss is looked at.
                looks = logs or saves or runtime.device.type == "cpu"
                if looks and runtime.any(not means.finite()):
                    raise ValueError(_diverged(step, optimizer, state_path, runtime))
                if logs:
                    record = {"lr": optimizer.param_groups[0]["lr"], **means.reduce(runtime)}
                    log.write("train", step, record, clock.read(step))
                    bar.say(f"loss {record['loss']:.4f}")
                    means = Means()
                if evaluate and evaluates:
                    runtime.share_buffers(kept)
                    with torch.inference_mode(), runtime.precision():
                        scores = evaluate(kept.eval())
                    log.write("evaluate", step, scores)
                    if not best or better(scores, best):
                        best = scores
                        if keep and runtime.first:
                            keep(kept, step, scores)
                    model.train()
                bar.update(step)
                if saves:
                    save()
                if stop and step < options.steps:
                    raise KeyboardInterrupt(f"stopped after step {step} of {options.steps}, nothing is lost: "
                                            "the same command goes on from there")
        if keep and not evaluate and runtime.first:
            keep(kept.eval(), step, {})
    return best


def _due(step: int, every: int, steps: int) -> bool:
    """True at each multiple of `every`, if that is not 0, and at the end."""
    return step == steps or (every > 0 and step % every == 0)


def _parts(batch: Any, n: int) -> Iterator[tuple[Any, float, bool]]:
    """Cuts a batch (a tensor, or tuples, lists and dicts of tensors) along its first axis into n parts.

    Yields:
        The part, its share of the samples, and whether it is the last one.
    """
    size = _length(batch)
    if n > size:
        raise ValueError(f"a batch of {size} cannot be accumulated in {n} parts; lower fit.accumulate")
    cuts = [size * i // n for i in range(n + 1)]
    for begin, end in pairwise(cuts):
        yield (batch if n == 1 else _cut(batch, slice(begin, end))), (end - begin) / size, end == size


def _length(batch: Any) -> int:
    while not isinstance(batch, Tensor):
        batch = next(iter(batch.values())) if isinstance(batch, dict) else batch[0]
    return len(batch)


def _cut(batch: Any, part: slice) -> Any:
    if isinstance(batch, dict):
        return {key: _cut(value, part) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        return type(batch)(_cut(value, part) for value in batch)
    return batch[part]


def _restore(path: Path, state: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer,
             average: Average | None) -> tuple[int, Scores, Means]:
    """Fills model, optimizer and average; returns the step, the best scores and the means since the last log line."""
    try:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        if average:
            average.model.load_state_dict(state["average"] or state["model"])
        step, best, means = state["step"], state["best"], Means(state["means"])
        if type(step) is not int or step < 0 or not isinstance(best, dict):
            raise ValueError(f"step {step!r} and best {best!r} are not those of a run")
        return step, best, means
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        first = " ".join(str(error).split())[:150]
        raise ValueError(f"{path} belongs to another model or optimizer ({first}); choose another folder") from error


def _diverged(step: int, optimizer: torch.optim.Optimizer, state: Path, runtime: Runtime) -> str:
    when = "at" if runtime.device.type == "cpu" else "at or before"
    rates = ", ".join(dict.fromkeys(f"{group['lr']:.3g}" for group in optimizer.param_groups))
    good = f"the last good state is {state}" if state.exists() else "no state was saved yet"
    return (f"the loss is not finite {when} step {step} (learning rate {rates}); {good}; "
            "lower the rate or clip the gradient")


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Turns the first Ctrl-C or SIGTERM into a flag that is read between steps; the second one acts at once."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def handle(number: int, frame: object) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(caught)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Clock:
    """Measures the rate of steps and the share of the time in which the model waited for data."""

    def __init__(self) -> None:
        self._since, self._waited = time.perf_counter(), 0.0
        self._step: int | None = None

    @contextmanager
    def waiting(self) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self._waited += time.perf_counter() - begin

    def read(self, step: int) -> dict[str, float]:
        now = time.perf_counter()
        seconds, waited, steps = now - self._since, self._waited, step - (self._step or 0)
        rate: dict[str, float] = {} if self._step is None else {"steps_per_second": steps / seconds}
        self._since, self._waited, self._step = now, 0.0, step
        return {"seconds": seconds, **rate, "waiting": waited / seconds}
