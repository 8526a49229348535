"""What this machine has that decides `auto`."""

from __future__ import annotations

import ctypes
import sys

import torch

from sagelight.config.resolve import Machine
from sagelight.cores import usable_cores
from sagelight.training.arithmetic import LEAST_GAIN, bf16_gain


def probe(timed: bool = True) -> Machine:
    """Cores that this process may use, the accelerator, and whether bf16 gains speed on it.

    On a CPU bf16 gains only with AMX units; without them it is up to ten times slower than fp32. Where the processor
    has them, a convolution is timed, because they may be out of reach.

    Args:
        timed: False leaves that out, for whoever does not want to know.
    """
    cores = usable_cores()
    if torch.cuda.is_available():
        fast = torch.cuda.get_device_capability() >= (8, 0)
        return Machine(cores, "cuda", fast, "Ampere or later" if fast else "GPU before Ampere")
    if torch.backends.mps.is_available():
        return Machine(cores, "mps", False, "Apple GPU")
    if not _has_amx():
        return Machine(cores, "cpu", False, "CPU without AMX")
    gain = bf16_gain() if timed else 0.0
    reason = f"CPU with AMX: a convolution is {gain:.1f} times as fast in bf16 as in fp32"
    return Machine(cores, "cpu", gain >= LEAST_GAIN, reason)


def _has_amx() -> bool:
    capabilities = torch.cpu.get_capabilities()
    # The second look sees where oneDNN is limited to AVX2, which the first does not.
    return bool(capabilities.get("amx_bf16")) and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def keep_freed_memory() -> None:
    """Let glibc reuse the memory of one step's tensors in the next, instead of giving it back.

    By default each large tensor is mapped anew, and the kernel zeroes every page of it, a
    large share of a training step on a CPU. Elsewhere than on Linux with glibc this does nothing. The numbers are those of
    malloc.h: M_MMAP_MAX and M_TRIM_THRESHOLD.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(-4, 0)
        mallopt(-1, 2**31 - 1)
