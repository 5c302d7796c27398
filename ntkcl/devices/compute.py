"""Device and precision of computations."""

import math
import os
import re
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from ntkcl.devices import distributed, gpus
from ntkcl.errors import UserError

GPU_WAIT_SECONDS = 60.0  # that one process of several waits for its GPU
FROZEN_PASS_IMAGES = 64  # that the frozen branches get together on a GPU, if a batch has fewer


def choose_device(name: str | torch.device, wait: bool = True) -> torch.device:
    """Return the device `name`: "cpu", "cuda", "cuda:N", or "auto" for a GPU if there is one.

    A GPU is reserved for this process until it ends; if all are reserved, the process waits (`ntkcl.devices.gpus`).
    A GPU that is given by its number is taken without asking.

    Args:
        name: name of the device.
        wait: if false, "auto" shares a reserved GPU instead of waiting; for short work.

    Raises:
        UserError: the name is unknown, or a GPU is asked for and there is none.
    """
    known = re.fullmatch(r"auto|cpu(:0)?|cuda(:(?P<number>\d+))?", str(name))
    if not known:
        raise UserError(f"device is {name!r}; give 'cpu', 'cuda', 'cuda:N' or 'auto'")
    if str(name).startswith("cpu"):
        return torch.device("cpu")
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # number the GPUs as nvidia-smi does
    if not torch.cuda.is_available():
        if str(name) != "auto":
            raise UserError("no GPU that torch can use; take --device cpu, or install a driver")
        return torch.device("cpu")
    if known["number"]:
        index = int(known["number"])
        if index >= torch.cuda.device_count():
            raise UserError(f"device is '{name}', and there are {torch.cuda.device_count()} GPUs, counted from 0")
    else:
        devices, local = gpus.visible(), distributed.local_rank()
        # two runs, each with some of their GPUs, would wait for each other forever
        timeout = math.inf if local is None else GPU_WAIT_SECONDS
        waits = wait or str(name) != "auto"
        index = gpus.claim(devices, gpus.jobs_per_gpu(), waits, timeout) if devices else local or 0
    device = torch.device("cuda", index)
    torch.cuda.set_device(device)
    torch.cuda.init()  # states contain its random state, too
    return device


def precision_on(device: torch.device, precision: str) -> str:
    """Resolve the setting `precision` on `device`: "float32" or "bfloat16"; "auto" is bfloat16 on a GPU that has it."""
    if precision == "auto":
        has_units = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return "bfloat16" if has_units else "float32"
    return precision


def batches_per_frozen_pass(device: torch.device, batch_size: int) -> int:
    """Number of batches that go through the frozen branches together: on a GPU, small ones would leave it idle."""
    return max(1, FROZEN_PASS_IMAGES // batch_size) if device.type == "cuda" else 1


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy `tensor` to `device`; to a GPU asynchronously, from pinned memory."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def autocast(device: torch.device, enabled: bool) -> AbstractContextManager:
    """Computing in bfloat16 where torch finds it safe, or if not `enabled`, in the types that tensors have."""
    if device.type == "meta":  # shapes alone
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)
