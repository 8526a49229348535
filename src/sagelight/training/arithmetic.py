"""Whether half of the bits are worth it on this processor, found out by trying."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F

# A layer from the middle of a ResNet, 0.9 billion operations a time.
CHANNELS, SIDE, PHOTOS = 128, 28, 2
ROUNDS = 4
# What a layer must gain before a whole step does: the rest of the step only pays for it. With AMX a layer gains 7, and a
# step 3; with AVX-512's bfloat16 alone a layer gains 1.9, and a step loses 0.05.
LEAST_GAIN = 3.0


def bf16_gain() -> float:
    """How many times as fast a convolution is on one core in bfloat16 as in float32, by processor time.

    The only look that sees every limit: flags tell what the processor has, not what oneDNN was told to use
    (ONEDNN_MAX_CPU_ISA) nor what a virtual machine emulates. It takes less than 0.3 s, most of it where bfloat16 is
    emulated.
    """
    # Constants: drawing would take random numbers from what is drawn next.
    weights, images = (
        torch.full(shape, 0.1).to(memory_format=torch.channels_last)
        for shape in ((CHANNELS, CHANNELS, 3, 3), (PHOTOS, CHANNELS, SIDE, SIDE))
    )
    with one_thread():
        # The first time also makes the kernel.
        _seconds(weights, images, half=False)
        full, half = _seconds(weights, images, half=False), _seconds(weights, images, half=True)
        if half > 5 * full:
            return full / half
        times = [[_seconds(weights, images, kind) for kind in (False, True)] for _ in range(ROUNDS)]
    return min(full for full, _ in times) / min(half for _, half in times)


def _seconds(weights: Tensor, images: Tensor, half: bool) -> float:
    began = time.thread_time()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        F.conv2d(images, weights, padding=1)
    return time.thread_time() - began


@contextmanager
def one_thread() -> Iterator[None]:
    """Others on the same cores change how long threads wait for each other, not how long one computes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
