"""The settings of `serve`, and what this machine makes of `auto`."""

from __future__ import annotations

from dataclasses import dataclass

from sagelight.config.setting import AUTO, setting
from sagelight.cores import usable_cores

# What SageMaker lets through to a real-time endpoint.
MAX_BODY_BYTES = 6_291_456


@dataclass
class ServeSettings:
    bundle: str | None = setting(None, "Folder of the bundle: a run leaves RUN_DIR/bundle.")
    host: str = setting(
        "127.0.0.1",
        "Address to listen on; 0.0.0.0 lets other machines in, and asks nobody who they are.",
    )
    names: list[str] = setting(
        [],
        "Names under which a proxy may ask a server that listens on this machine alone; else it answers to localhost "
        "and to numbers, and to no web page but its own.",
    )
    port: int = setting(8080, "Port to listen on; 0 takes any free one.", least=0, most=65535)
    workers: int | str = setting(
        AUTO,
        "Batches that are computed at the same time, on a core each; auto: every core.",
        least=1,
    )
    threads: int | str = setting(
        AUTO, "Cores for a photo that is alone in the server; auto: every core.", least=1
    )
    batch_size: int = setting(4, "Photos of waiting requests that are computed together.", least=1)
    batch_delay_ms: float = setting(
        0.0, "Longest wait for others that are being decoded; nobody waits when alone.", least=0
    )
    queue: int = setting(
        128, "Requests in hand at most; more are answered 503 with Retry-After.", least=1
    )
    timeout_seconds: float = setting(
        50.0, "From the first byte to the answer; SageMaker gives up after 60.", above=0
    )
    receive_seconds: float = setting(
        20.0, "For the headers, and again for the body of a request to arrive.", above=0
    )
    max_body_bytes: int = setting(
        MAX_BODY_BYTES, "Largest body of a request; more is answered 413.", least=1
    )
    max_megapixels: int = setting(
        50, "Largest photo, and all that are decoded at the same time.", least=1
    )
    tolerant: bool = setting(
        False,
        "Answer a photo that cannot be read with 200 and its error; batch transform would end at another status.",
    )
    top_k: int = setting(5, "Labels listed in an answer, best first.", least=1)
    url_hosts: list[str] = setting(
        [], "Hosts from which photos may be fetched by URL; none, so that is off."
    )
    explain: bool = setting(True, "Whether the page offers a heat map of what a label rests on.")


@dataclass(frozen=True)
class Shares:
    """How the cores are divided: batches at a time, cores of one batch, of one photo, decoding threads.

    Under load one core a batch does most: two cores to one batch of a ResNet-18 took half as much processor
    time again. A photo alone is answered soonest by all.
    """

    workers: int
    batch_threads: int
    threads: int
    decoders: int


def shares(settings: ServeSettings) -> Shares:
    """What `auto` means on this machine."""
    cores = usable_cores()
    workers = cores if settings.workers == AUTO else int(settings.workers)
    threads = cores if settings.threads == AUTO else int(settings.threads)
    return Shares(workers, max(1, cores // workers), threads, max(2, cores))
