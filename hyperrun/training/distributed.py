"""One machine, several processes: `torchrun --nproc-per-node=N -m hyperrun train ...` (data parallel)."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hyperrun.errors import UserError


@dataclass(frozen=True)
class World:
    """This process among the processes of the run."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0


@contextmanager
def join_world() -> Iterator[World]:
    """Join the processes torchrun started (its environment variables say so), or stand alone.

    Raises:
        UserError: more processes on this machine than GPUs.
    """
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    cuda = torch.cuda.is_available()
    if size == 1:
        yield World(0, 1, torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu"))
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if cuda and local >= torch.cuda.device_count():
        raise UserError(f"torchrun started more processes than the {torch.cuda.device_count()} GPUs of this machine")
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if not dist.is_initialized():  # once for all jobs of a multirun: the meeting point is gone after the first
        dist.init_process_group("nccl" if cuda else "gloo")
        atexit.register(dist.destroy_process_group)
    yield World(rank, size, device)


def synchronize_norms(model: nn.Module, world: World) -> nn.Module:
    """Return the model with batch norms over all processes. On CPUs, where torch has none, as it is: each process
    normalizes over its own share of the batch, and the first one's statistics are kept."""
    if world.size > 1 and world.device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return model


def share_buffers(model: nn.Module, world: World) -> None:
    """Give all processes the first one's buffers (batch norm statistics): they evaluate the model that is saved."""
    if world.size > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


def wrap(module: nn.Module, world: World) -> nn.Module:
    """Return the module in DistributedDataParallel; as it is when alone."""
    if world.size == 1:
        return module
    ids = [world.device.index] if world.device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(module, device_ids=ids, gradient_as_bucket_view=True)


def sum_over_ranks(values: Tensor, world: World) -> Tensor:
    """Return the elementwise sum over all processes."""
    if world.size > 1:
        dist.all_reduce(values)
    return values


def gather_examples(rows: Tensor, world: World, dim: int = 0) -> Tensor:
    """Return a tensor with the examples of all processes along `dim`, the first one's first. All have as many."""
    if world.size == 1:
        return rows
    rows = rows.contiguous()
    parts = [torch.empty_like(rows) for _ in range(world.size)]
    dist.all_gather(parts, rows)
    return torch.cat(parts, dim)


def gather_objects(value: Any, world: World) -> list[Any]:
    """Return the values of all processes (plain Python objects), the first one's first."""
    if world.size == 1:
        return [value]
    found = [None] * world.size
    dist.all_gather_object(found, value)
    return found


def any_rank(flag: bool, world: World) -> bool:
    """Return whether the flag is set in any process, so that all of them stop at the same step."""
    return bool(max_over_ranks(int(flag), world))


def max_over_ranks(number: int, world: World) -> int:
    """Return the largest of the processes' numbers."""
    if world.size == 1:
        return number
    value = torch.tensor(number, device=world.device)
    dist.all_reduce(value, dist.ReduceOp.MAX)
    return int(value.item())


def barrier(world: World) -> None:
    if world.size == 1:
        return
    try:
        dist.barrier()
    except RuntimeError:
        if world.is_main:
            raise
        raise SystemExit(1) from None  # the first process has ended, and has said why
