"""What one rank of two does in the test of many processes: `torchrun -m tests.core.ranks FOLDER`."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from core.runtime import Hardware, Runtime, start
from tests.core.training import loss_fn, train

folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
here = folder / f"disk{rank}"  # each rank has a disk of its own
calls = 0
seen: dict[str, Any] = {}


def interrupt(model: Any, batch: Any) -> Any:
    """The second rank alone is interrupted, in step 13; a step makes two calls."""
    global calls
    calls += 1
    if calls == 25 and rank == 1:
        os.kill(os.getpid(), signal.SIGINT)
    return loss_fn(model, batch)


def normalised(runtime: Runtime, part: slice) -> dict[str, Any]:
    """One step of a batch norm on this rank's part of eight pictures: output, gradients, running statistics."""
    pictures, weights = (torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(k)) + 10 for k in (0, 1))
    x = pictures[part].requires_grad_()
    norm = runtime.place(torch.nn.BatchNorm2d(4))
    y = norm(x)
    (y * weights[part]).sum().backward()
    return {"y": y.detach(), "x": x.grad, "gain": norm.weight.grad, **norm.state_dict()}


try:
    with start(Hardware(device="cpu", world=3)):
        pass
except ValueError as error:
    seen["wrong"] = str(error)

with start(Hardware(device="cpu", threads=1), seed=5) as runtime:
    train(here / "plain", plain=True, accumulate=1, runtime=runtime)
    train(here / "normed", dropout=0, accumulate=1, runtime=runtime)
    torch.save(normalised(runtime, slice(0, 5) if rank == 0 else slice(5, 8)), folder / f"uneven{rank}.pt")
    train(here / "alone", runtime=runtime)
    try:
        train(here / "resumed", loss=interrupt, runtime=runtime)
    except KeyboardInterrupt as stop:
        seen["said"] = str(stop)
    train(here / "resumed", runtime=runtime)
    seen["shares"] = runtime.gather(list(runtime.share(51)))

(folder / f"rank{rank}.json").write_text(json.dumps(seen))
