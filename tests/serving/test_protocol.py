"""One connection, without a network."""

from __future__ import annotations

import asyncio
import errno

import uvicorn
from uvicorn.server import ServerState

from sagelight.serving.server.protocol import guarded_protocol


class Gone(asyncio.Transport):
    """A connection that the other side has broken off."""

    def __init__(self) -> None:
        super().__init__({"socket": None})
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def write_eof(self) -> None:
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    def abort(self) -> None:
        """Nothing is left to break."""


async def refuse() -> bytes:
    config = uvicorn.Config("unused:application", lifespan="off")
    config.load_app = lambda: None  # type: ignore[method-assign, assignment, return-value]
    config.load()
    protocol = guarded_protocol(5.0)(config, ServerState(), {})
    protocol.transport = gone = Gone()
    protocol.data_received(b"no request\r\n\r\n")
    return gone.written


def test_whoever_has_gone_can_be_refused() -> None:
    written = asyncio.run(refuse())
    assert written.startswith(b"HTTP/1.1 400 Bad Request")
    assert b"this is no request of HTTP/1.1" in written
