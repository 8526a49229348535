"""What decides between float32 and bfloat16 on a CPU."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from sagelight.training import machine
from sagelight.training.arithmetic import bf16_gain


def test_the_trial_leaves_threads_and_random_numbers_as_they_were() -> None:
    torch.manual_seed(3)
    expected, threads = torch.rand(4), torch.get_num_threads()
    torch.manual_seed(3)
    assert bf16_gain() > 0
    assert torch.equal(torch.rand(4), expected)
    assert torch.get_num_threads() == threads


def test_where_onednn_may_use_avx2_alone_bfloat16_is_seen_to_lose() -> None:
    code = "from sagelight.training.arithmetic import bf16_gain; print(bf16_gain())"
    limited = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=limited
    )
    assert float(done.stdout) < 1


@pytest.mark.parametrize(("gain", "fast"), [(7.0, True), (1.9, False), (0.1, False)])
def test_units_that_gain_nothing_are_not_used(
    gain: float, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(machine, "_has_amx", lambda: True)
    monkeypatch.setattr(machine, "bf16_gain", lambda: gain)
    found = machine.probe()
    assert found.fast_bf16 == fast
    assert f"a convolution is {gain:.1f} times as fast in bf16 as in fp32" in found.reason


def test_without_the_units_nothing_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(machine, "_has_amx", lambda: False)
    monkeypatch.setattr(machine, "bf16_gain", lambda: pytest.fail("timed for nothing"))
    assert machine.probe() == machine.Machine(
        machine.usable_cores(), "cpu", False, "CPU without AMX"
    )
