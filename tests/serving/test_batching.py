"""Requests that wait share a run; nobody waits for nobody; memory for decoding is lent, not given."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sagelight.bundle.preprocessing import Preprocessing
from sagelight.serving.server.batching import Batcher, ModelFailure, Pixels, rows
from sagelight.serving.server.decoding import Decoding
from sagelight.serving.server.health import Health
from sagelight.serving.server.refusal import Refusal
from sagelight.serving.server.settings import ServeSettings, Shares, shares
from serving.test_server import encoded

PIXELS = np.zeros((3, 2, 2), np.uint8)


class Network:
    """Answers with the first value of each photo; on request, only after a while."""

    def __init__(self, seconds: float = 0) -> None:
        self.sizes: list[int] = []
        self._seconds = seconds

    def __call__(self, pixels: Pixels) -> np.ndarray:
        self.sizes.append(len(pixels))
        time.sleep(self._seconds)
        return pixels[:, 0, 0, :1].astype(np.float32)


def numbered(number: int) -> Pixels:
    return np.full((3, 2, 2), number, np.uint8)


async def answered(batcher: Batcher, count: int) -> list[float]:
    rows = await asyncio.gather(*(batcher.submit(numbered(n)) for n in range(count)))
    return [float(row[0]) for row in rows]


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 20))


def test_those_who_wait_are_computed_together_and_in_order() -> None:
    async def story() -> None:
        network = Network(0.02)
        batcher = Batcher(network, 4, 0, workers=1)
        assert await answered(batcher, 10) == list(range(10))
        # The first found nobody waiting beside it; the rest waited for it.
        assert network.sizes == [1, 4, 4, 1]
        batcher.close()

    run(story())


def test_work_alone_takes_a_place_until_it_has_ended() -> None:
    async def story() -> None:
        network = Network()
        batcher = Batcher(network, 4, 0, workers=1)
        ended = threading.Event()

        def work() -> float:
            ended.wait(10)
            return float(rows(network, PIXELS[np.newaxis])[0, 0])

        assert batcher.idle
        loop = asyncio.get_running_loop()
        alone = asyncio.create_task(batcher.alone(asyncio.ensure_future(asyncio.to_thread(work))))
        await asyncio.sleep(0)
        assert not batcher.idle
        waiting = [batcher.submit(numbered(n)) for n in range(3)]
        alone.cancel()
        await asyncio.sleep(0.02)
        assert network.sizes == []
        loop.call_soon(ended.set)
        assert [float((await row)[0]) for row in waiting] == [0, 1, 2]
        assert network.sizes == [1, 3]
        assert batcher.idle
        batcher.close()

    run(story())


def test_two_workers_run_at_the_same_time() -> None:
    async def story() -> None:
        both = threading.Barrier(2, timeout=5)

        def network(pixels: Pixels) -> np.ndarray:
            both.wait()
            return pixels[:, 0, 0, :1].astype(np.float32)

        batcher = Batcher(network, 1, 0, workers=2)
        assert await answered(batcher, 2) == [0, 1]
        batcher.close()

    run(story())


def test_alone_nobody_waits_whatever_the_delay() -> None:
    async def story() -> None:
        batcher = Batcher(Network(), 8, delay=5, workers=1)
        started = time.monotonic()
        with batcher.coming():
            row = batcher.submit(PIXELS)
        await row
        assert time.monotonic() - started < 1
        batcher.close()

    run(story())


def test_with_a_delay_a_batch_waits_for_those_that_are_coming() -> None:
    async def story() -> None:
        network = Network()
        batcher = Batcher(network, 8, delay=5, workers=1)
        with batcher.coming():
            first = batcher.submit(numbered(1))
            await asyncio.sleep(0.05)
            assert network.sizes == []
            second = batcher.submit(numbered(2))
        assert [float((await row)[0]) for row in (first, second)] == [1, 2]
        assert network.sizes == [2]
        batcher.close()

    run(story())


def test_the_delay_ends() -> None:
    async def story() -> None:
        batcher = Batcher(Network(), 8, delay=0.05, workers=1)
        with batcher.coming():
            for number in range(3):
                started = time.monotonic()
                assert float((await batcher.submit(numbered(number)))[0]) == number
                assert 0.04 < time.monotonic() - started < 5
        batcher.close()

    run(story())


def test_whoever_gave_up_is_not_computed() -> None:
    async def story() -> None:
        network = Network(0.05)
        batcher = Batcher(network, 1, 0, workers=1)
        waiting = [batcher.submit(numbered(n)) for n in range(3)]
        waiting[1].cancel()
        assert [float((await waiting[n])[0]) for n in (0, 2)] == [0, 2]
        assert network.sizes == [1, 1]
        batcher.close()

    run(story())


@pytest.mark.parametrize("wrong", ["raises", "nan", "short"])
def test_a_failure_reaches_all_of_its_batch_and_no_other(wrong: str) -> None:
    def network(pixels: Pixels) -> np.ndarray:
        row = pixels[:, 0, 0, :1].astype(np.float32)
        if pixels.max() == 9:
            if wrong == "raises":
                raise RuntimeError("out of memory")
            return row * np.nan if wrong == "nan" else row[:0]
        return row

    async def story() -> None:
        batcher = Batcher(network, 2, 0, workers=1)
        waiting = [batcher.submit(numbered(n)) for n in (1, 9, 9, 4)]
        found = await asyncio.gather(*waiting, return_exceptions=True)
        kinds = [type(each) for each in found]
        assert kinds == [np.ndarray, ModelFailure, ModelFailure, np.ndarray]
        batcher.close()

    run(story())


def test_health_is_what_the_last_inference_showed() -> None:
    async def story() -> None:
        works = False

        async def probe() -> None:
            if not works:
                raise ModelFailure("no memory")

        health = Health(probe)
        assert health.reason == "the network has not answered yet"
        health.probe()
        await asyncio.sleep(0.01)
        assert health.reason == "no memory"
        works = True
        health.probe()
        await asyncio.sleep(0.01)
        assert health.reason == ""

    run(story())


def decoding(most: int) -> Decoding:
    half = (0.5, 0.5, 0.5)
    return Decoding(Preprocessing(8, 8, half, half), threads=4, max_pixels=most)


def test_decoding_lends_no_more_pixels_than_it_has() -> None:
    async def story() -> None:
        lender = decoding(100)
        taken: list[int] = []
        most: list[int] = []
        lock = threading.Lock()

        def work(pixels: int) -> None:
            with lender.taking(pixels):
                with lock:
                    taken.append(pixels)
                    most.append(sum(taken))
                time.sleep(0.01)
                with lock:
                    taken.remove(pixels)

        def task(pixels: int) -> Callable[[], None]:
            return lambda: work(pixels)

        await asyncio.gather(*(lender.elsewhere(task(n)) for n in (60, 50, 30, 100, 10, 90, 40)))
        assert max(most) <= 100
        with pytest.raises(Refusal, match="Send less or smaller"), lender.taking(101):
            pass
        lender.close()

    run(story())


@pytest.mark.parametrize(
    ("mode", "kind", "most"),
    [
        ("RGB", "PNG", 400),
        ("L", "JPEG", 400),
        ("RGBA", "PNG", 800),
        ("LA", "PNG", 800),
        ("RGB", "WEBP", 800),
        ("I;16", "PNG", 1200),
    ],
)
def test_what_takes_more_memory_counts_more(mode: str, kind: str, most: int) -> None:
    async def story() -> None:
        body = encoded(Image.new(mode, (20, 20)), kind)
        enough, little = decoding(most), decoding(most - 1)
        assert (await enough.pixels(body)).shape == (3, 8, 8)
        with pytest.raises(Refusal):
            await little.pixels(body)
        enough.close()
        little.close()

    run(story())


def test_workers_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sagelight.serving.server.settings.usable_cores", lambda: 8)
    assert shares(ServeSettings()) == Shares(workers=8, batch_threads=1, threads=8, decoders=8)
    assert shares(ServeSettings(workers=3)).batch_threads == 2
    assert shares(ServeSettings(workers=16)).batch_threads == 1
    assert shares(ServeSettings(workers=1, threads=5)) == Shares(1, 8, 5, 8)
