from __future__ import annotations

import errno
import json
import os
import sys
import time
import types
from pathlib import Path

import pytest

from profiling.made import START, leave_steps, step
from sagelight.profiling.clock import StepClock
from sagelight.profiling.gpu import Gpus
from sagelight.profiling.lines import Watching, append
from sagelight.profiling.proc import OwnTime, Reading, count, process_started, rates
from sagelight.profiling.profile import Profile
from sagelight.profiling.sampler import Sampler, metrics_file

HERE = Path("profiler")
DISK = "254 0 vda {ops} 0 {read} 9 10 0 {written} 9 0 9 9\n254 1 vda1 5 0 9 9 9 0 9 9 0 9 9\n7 0 loop0 9 9 9 9 9 9 9 9 9 9 9\n"
NET = "Inter-| x\n face |x\n    lo: 999 0 0 0 0 0 0 0 999 0\n  eth0: {got} 0 0 0 0 0 0 0 {sent} 0\n"


def leave_proc(
    user: int, idle: int, waiting: int, ops: int = 0, read: int = 0, got: int = 0
) -> Path:
    """/proc of a machine with one core, a disk with a partition, and a network card."""
    proc = Path("proc")
    (proc / "net").mkdir(parents=True, exist_ok=True)
    core = f"{user} 0 0 {idle} {waiting} 0 0 0 0 0"
    (proc / "stat").write_text(f"cpu  {core}\ncpu0 {core}\nintr 1 2\nbtime 1\n")
    (proc / "diskstats").write_text(DISK.format(ops=ops, read=read, written=0))
    (proc / "net" / "dev").write_text(NET.format(got=got, sent=0))
    (proc / "meminfo").write_text("MemTotal: 200 kB\nMemFree: 1 kB\nMemAvailable: 150 kB\n")
    return proc


def test_rates_between_two_looks() -> None:
    before = count(0.0, leave_proc(100, 100, 100))
    after = count(2.0, leave_proc(150, 130, 120, ops=6, read=8, got=1000))
    assert list(rates(before, after)) == [
        Reading("cpu", "cpu0", "CPUUtilization", 50.0),
        Reading("cpu", "cpu0", "I/OWaitPercentage", 20.0),
        Reading("memory", "MemoryUsedPercent", "", 25.0),
        Reading("i/o", "IOPS", "", 3.0),
        Reading("i/o", "ReadThroughputInBytesPerSecond", "", 2048.0),
        Reading("i/o", "WriteThroughputInBytesPerSecond", "", 0.0),
        Reading("network", "ReceiveBytesPerSecond", "Algorithm", 500.0),
        Reading("network", "TransmitBytesPerSecond", "Algorithm", 0.0),
    ]


def test_counters_that_run_backwards_are_no_negative_rates() -> None:
    before = count(0.0, leave_proc(100, 100, 100, ops=9, got=9))
    after = count(1.0, leave_proc(150, 90, 90))
    assert all(reading.value >= 0 for reading in rates(before, after))


def test_samples_are_sagemakers_lines_in_sagemakers_files() -> None:
    sampler = Sampler(HERE, "algo-1", 0.5, Watching(), proc=leave_proc(0, 0, 0))
    sampler.sample(lambda: 1591160699.2)
    leave_proc(40, 60, 0)
    sampler.sample(lambda: 1591160699.45)
    leave_proc(80, 120, 0)
    sampler.sample(lambda: 1591160701.0)
    sampler.flush()
    first = HERE / "system/incremental/2020060305/1591160640.algo-1.json"
    second = HERE / "system/incremental/2020060305/1591160700.algo-1.json"
    assert json.loads(first.read_text().splitlines()[0]) == {
        "Type": "cpu",
        "Name": "cpu0",
        "Dimension": "CPUUtilization",
        "Value": 40.0,
        "NodeId": "algo-1",
        "Timestamp": 1591160699.45,
    }
    assert len(second.read_text().splitlines()) == 8
    profile = Profile.read(HERE)
    assert profile.of("CPUUtilization", "algo-1")["cpu0"].tolist() == [40, 40]
    assert profile.damaged == 0


def test_the_thread_measures_this_machine_and_ends() -> None:
    sampler = Sampler(HERE, "algo-1", 0.05, Watching())
    sampler.start()
    time.sleep(0.4)
    sampler.stop()
    profile = Profile.read(HERE)
    busy = profile.of("CPUUtilization", "algo-1")
    assert len(busy) == os.cpu_count()
    assert all((values >= 0).all() and (values <= 100).all() for values in busy.values())
    assert sampler._thread is None


def test_a_system_without_proc_says_so() -> None:
    sampler = Sampler(HERE, "algo-1", 0.05, Watching(), proc=Path("nowhere"))
    sampler.start()
    sampler.stop()
    assert sampler.missing == ["this system has no /proc: CPU and disk go unmeasured"]
    assert not HERE.exists()
    assert process_started(Path("nowhere")) is None


def test_this_process_has_begun() -> None:
    began = process_started()
    assert began is not None
    assert 0 < time.time() - began < 86400


def nvml(**answers: object) -> types.ModuleType:
    module = types.ModuleType("pynvml")
    plain = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
        "nvmlDeviceGetUtilizationRates": lambda handle: types.SimpleNamespace(gpu=37),
        "nvmlDeviceGetMemoryInfo": lambda handle: types.SimpleNamespace(used=1, total=4),
    }
    for name, answer in {**plain, **answers}.items():
        setattr(module, name, answer)
    return module


def fails(*_: object) -> None:
    raise RuntimeError("GPU is lost")


def test_gpus_are_measured_where_nvml_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml())
    assert list(Gpus(["GPU-a"]).readings()) == [
        Reading("gpu", "gpu0", "GPUUtilization", 37.0),
        Reading("gpu", "gpu0", "GPUMemoryUtilization", 25.0),
    ]
    monkeypatch.setitem(sys.modules, "pynvml", nvml(nvmlDeviceGetMemoryInfo=fails))
    lost = Gpus(["GPU-a"])
    assert list(lost.readings()) == []
    assert lost.missing == "the GPU is not measured any more: GPU is lost"
    monkeypatch.setitem(sys.modules, "pynvml", nvml(nvmlInit=fails))
    assert Gpus(["GPU-a"]).missing == "the GPU was not measured: GPU is lost"
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert Gpus(["GPU-a"]).missing.endswith("type pip install 'sagelight[gpu]'")


def test_lines_are_whole_or_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path("a/b.jsonl")
    append(path, ["one"])
    with path.open("a") as file:
        file.write('{"cut by a ki')
    append(path, ["two", "three"])
    assert path.read_text() == "one\ntwo\nthree\n"
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, text: write(file, text[:2]))
    with pytest.raises(OSError, match="No space left"):
        append(path, ["four"])
    assert path.read_text() == "one\ntwo\nthree\n"


def test_a_full_disk_ends_the_measuring_with_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    watching = Watching()
    sampler = Sampler(HERE, "algo-1", 0.01, watching)
    sampler.start()
    time.sleep(0.1)
    monkeypatch.setattr(os, "write", full)
    leave_steps(HERE, [step()] * 3, watching=watching)
    sampler.stop()
    assert watching.stopped.endswith("; nothing is measured any more, training goes on")
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "could not be written: No space left on device" in told


def test_damaged_lines_are_left_out_and_counted() -> None:
    path = leave_steps(HERE, [step()] * 5)
    append(path, ['{"kind":"step","epoch":0}', "[]", "no json", '{"kind":"start"}'])
    append(HERE / metrics_file(0, "algo-1"), ['{"Type":"cpu"}'])
    profile = Profile.read(HERE)
    assert profile.damaged == 5
    assert len(profile.workers[path.name].steps) == 5


def test_a_continued_run_goes_on_with_the_same_file() -> None:
    leave_steps(HERE, [step()] * 5)
    path = leave_steps(HERE, [step()] * 4, START)
    [worker] = Profile.read(HERE).workers.values()
    assert [each.start for each in worker.steps] == [0] * 5 + [1] * 4
    assert len(worker.judged(3)) == 2 + 1
    assert len(path.read_text().splitlines()) == 11


def test_the_phases_of_a_step_add_up() -> None:
    times = iter([0.0, 1.0, 3.0, 3.25, 7.0, 8.0, 12.0, 13.0, 13.5, 14.0, 15.0])
    own = iter([(0.0, 0.0), (0.5, 0.25), (6.0, 2.0), (6.0, 2.5), (7.0, 3.0), (8.0, 4.0)])
    clock = StepClock(lambda: next(times), lambda: next(own))
    clock.wait()
    clock.loaded()
    for moment in ("computed", "backward", "differentiated", "update", "updated"):
        clock.mark(moment)
    found = clock.end()
    assert found is not None
    assert (found.data, found.forward, found.backward, found.optimizer) == (1, 2, 3.75, 4)
    assert found.total == 13
    assert (found.data_queued, found.queued, found.core) == (0.25, 2, 6)
    clock.loaded()
    short = clock.end()
    assert short is not None
    assert (short.data, short.forward, short.backward, short.other) == (0.5, 0, 0, 0.5)
    assert clock.end() is None


def test_the_scheduler_counts_this_threads_time() -> None:
    own = OwnTime()
    before, began = own(), time.monotonic()
    sum(range(100_000))
    time.sleep(0.1)
    after = own()
    assert after >= before
    assert sum(after) - sum(before) <= time.monotonic() - began - 0.09
    own.close()
    assert own() == (0.0, 0.0)
    assert OwnTime(Path("nowhere"))() == (0.0, 0.0)
