"""Where the numbers are crunched: device, precision, seed, rank and world size."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from core import batchnorm
from core.cli import within

Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class Hardware:
    """What a run computes on; the same numbers come out of any of them up to rounding."""

    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:1`; auto takes a GPU where there is one."""
    precision: Precision = "auto"
    """Autocast type of the forward pass; auto is bfloat16 on a GPU that has it and float32 on a CPU."""
    compile: bool = False
    """Compile the model with torch.compile; the first steps then take up to a minute."""
    threads: int = 0
    """CPU threads inside one operation; 0 leaves torch's choice. One is often fastest on a busy machine."""
    world: int = 0
    """Number of processes that must be training together; 0 accepts what torchrun started."""

    def __post_init__(self) -> None:
        within(self, 0, math.inf, "threads", "world", of="hardware.")


@dataclass(frozen=True)
class Runtime:
    """One process among `world`, on its device; it moves data and models there and never changes."""

    device: torch.device
    autocast: torch.dtype | None = None
    compile: bool = False
    seed: int = 0
    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """True in the one process that prints and writes files."""
        return self.rank == 0

    def place(self, model: nn.Module) -> nn.Module:
        """Moves a model to the device, its convolutions in channels_last, its batch statistics over all ranks."""
        model = channels_last(model.to(self.device))
        return batchnorm.over_ranks(model, self.device) if self.world > 1 else model

    def to_device(self, batch: Any) -> Any:
        """Moves a tensor, or the tensors in tuples, lists and dicts, to the device; 4-D ones in channels_last."""
        if isinstance(batch, Tensor):
            layout = torch.channels_last if batch.ndim == 4 else torch.preserve_format
            return batch.to(self.device, non_blocking=True, memory_format=layout)
        if isinstance(batch, dict):
            return {key: self.to_device(value) for key, value in batch.items()}
        if isinstance(batch, tuple | list):
            return type(batch)(self.to_device(value) for value in batch)
        return batch

    def precision(self) -> Any:
        """The context in which a forward pass runs."""
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(self.device.type, self.autocast)

    def reseed(self, step: int) -> None:
        """Makes every random number of a step (dropout and friends) a pure function of (seed, step, rank)."""
        # Odd multipliers (splitmix64's) keep neighbours apart; the generator's own seeding scrambles them.
        mixed = self.seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + self.rank * 0x94D049BB133111EB
        seed = mixed % 2**64
        # Not torch.manual_seed, which sees to every kind of device that there is and takes ten times as long.
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def share(self, n: int) -> range:
        """The indices of 0..n-1 that this rank evaluates: over all ranks each exactly once."""
        return range(self.rank, n, self.world)

    def any(self, flag: bool) -> bool:
        """True on every rank if the flag is true on any."""
        if self.world == 1:
            return flag
        votes = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(votes, dist.ReduceOp.MAX)
        return bool(votes.item())

    def share_buffers(self, model: nn.Module) -> None:
        """Gives every rank the first rank's buffers (running means of batch norm), as DDP does in training."""
        if self.world > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def from_first(self, value: Any) -> Any:
        """The first rank's value (any picklable object), on every rank."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, 0)
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        """The values (any picklable object) of all ranks, in rank order, on every rank."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values


@contextmanager
def start(hardware: Hardware | None = None, *, seed: int = 0) -> Iterator[Runtime]:
    """Opens the runtime of this process, joined with its peers when torchrun started several.

    Raises:
        ValueError: if the device is not there, or if the number of processes is not the one asked for.
    """
    hardware = hardware or Hardware()
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if hardware.world and hardware.world != world:
        raise ValueError(
            f"{world} process{'es' if world > 1 else ''} started, {hardware.world} asked for by --hardware.world: "
            f"start them with `torchrun --nproc-per-node {hardware.world} -m ...`"
        )
    device = find_device(hardware.device, int(os.environ.get("LOCAL_RANK", 0)))
    if hardware.threads:
        torch.set_num_threads(hardware.threads)
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    if world > 1:
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        assert dist.get_world_size() == world, "torchrun's WORLD_SIZE and the process group disagree"
    runtime = Runtime(device, _autocast(hardware.precision, device), hardware.compile, seed, rank, world)
    runtime.reseed(0)
    try:
        yield runtime
    finally:
        if world > 1:
            dist.destroy_process_group()


def find_device(name: str = "auto", local_rank: int = 0) -> torch.device:
    """Turns `auto`, `cpu`, `cuda` or `cuda:1` into a device that is there; ranks of one machine take one GPU each."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device {name!r} is not known; use auto, cpu, cuda or cuda:<number>") from None
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device {name!r} is not supported; use auto, cpu, cuda or cuda:<number>")
    if device.type == "cuda":
        index = local_rank if device.index is None else device.index
        if index >= torch.cuda.device_count():
            raise ValueError(f"device cuda:{index} asked for, {torch.cuda.device_count()} CUDA devices seen; use cpu")
        device = torch.device("cuda", index)
    return device


def _autocast(precision: Precision, device: torch.device) -> torch.dtype | None:
    if precision == "auto":
        precision = "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    return torch.bfloat16 if precision == "bfloat16" else None


def channels_last(model: nn.Module) -> nn.Module:
    """Lays the filters of 2-D convolutions out with the channel running fastest, which is what hardware likes."""
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return model


def bfloat16_pays(device: str = "cpu") -> bool:
    """True where the hardware multiplies bfloat16 itself; other CPUs emulate it, slowly.

    It is asked, not measured: what a model answers must not depend on how busy the machine was when it was loaded.
    """
    if device != "cpu":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    able = torch.cpu.get_capabilities()
    return any(able.get(feature, False) for feature in ("avx512_bf16", "amx_bf16", "bf16"))


def describe(device: torch.device | str = "cpu") -> str:
    """The name of the processor, as it should stand beside every speed figure."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = "CPU"
    try:
        with open("/proc/cpuinfo") as lines:
            name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        import platform

        name = platform.processor() or platform.machine()
    return f"{name} ({torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores)"
