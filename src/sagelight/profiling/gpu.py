"""How busy the GPUs of a training are, by NVIDIA's management library.

Source: the NVML API reference. The package is nvidia-ml-py, which the extra `gpu` installs; it is imported only where
a training uses CUDA.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sagelight.errors import first_line
from sagelight.profiling.proc import Reading

_PERCENT = 100.0


class Gpus:
    """The GPUs of this machine that a training uses, gpu0 being the first of them.

    Attributes:
        missing: why they cannot be measured; empty where they can.
    """

    def __init__(self, uuids: list[str]) -> None:
        """Open them by NVIDIA's identifiers, which hold whatever CUDA_VISIBLE_DEVICES leaves out."""
        self.missing = ""
        self._handles: list[Any] = []
        try:
            import pynvml

            self._nvml = pynvml
            pynvml.nvmlInit()
            self._handles = [pynvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in uuids]
        except ModuleNotFoundError:
            self.missing = "the GPU was not measured: type pip install 'sagelight[gpu]'"
        except Exception as error:  # The library has an exception for every fault of a driver.
            self.missing = f"the GPU was not measured: {first_line(error)}"

    def readings(self) -> Iterator[Reading]:
        """Percent of the time in which kernels ran, and percent of the memory that is taken."""
        for number, handle in enumerate(self._handles):
            name = f"gpu{number}"
            try:
                busy = self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu
                memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
            except Exception as error:
                self.missing = f"the GPU is not measured any more: {first_line(error)}"
                self._handles = []
                return
            yield Reading("gpu", name, "GPUUtilization", float(busy))
            used = _PERCENT * memory.used / memory.total
            yield Reading("gpu", name, "GPUMemoryUtilization", used)


def cuda_uuids(count: int) -> list[str]:
    """NVIDIA's identifiers of the first `count` GPUs that torch sees."""
    import torch

    return [f"GPU-{torch.cuda.get_device_properties(number).uuid}" for number in range(count)]
