"""HTTP/1.1 on one connection, by uvicorn and h11: what they leave open to slow, broken or too many senders is closed here.

Source: RFC 9112; uvicorn's H11Protocol waits for headers without end, and answers what is no HTTP with plain text.
"""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import sys
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from sagelight.serving.server.log import log

# Seconds to read on after a last answer: a connection closed with bytes unread may lose it.
LINGER_SECONDS = 2.0
MOST_CONNECTIONS = 1000
# Open files beside the connections.
OTHER_FILES = 64


class GuardedProtocol(H11Protocol):
    """Gives a request `receive_seconds` for its headers, and says in JSON why it is refused."""

    receive_seconds = 20.0
    most_connections = MOST_CONNECTIONS
    _timer: asyncio.TimerHandle | None = None
    _parting = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # asyncio does this only where it has made the listening socket: otherwise the body of an answer waits
        # for the receipt of its headers, which the other side holds back for 40 ms.
        own = transport.get_extra_info("socket")
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self.connections) > self.most_connections:
            reason = f"{self.most_connections} connections are open already. Try again in a second."
            self._part(HTTPStatus.SERVICE_UNAVAILABLE, reason, ("Retry-After", "1"))
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        if not self._parting:
            super().data_received(data)
            self._watch()

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Answer also who has shut the sending half down: nothing more comes, but somebody may listen."""
        if self._parting or self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return None
        if self.conn.their_state is h11.SEND_BODY or self.conn.trailing_data[0]:
            self._part(HTTPStatus.BAD_REQUEST, "the request ended before it was complete.")
        elif self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
            return True
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self._unset_timer()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """Called where h11 found an error: it knows a better status and the reason."""
        error = sys.exception()
        if isinstance(error, h11.RemoteProtocolError):
            # h11 calls what it does not know a fault of the server.
            hint = error.error_status_hint
            status = HTTPStatus(hint if hint < HTTPStatus.INTERNAL_SERVER_ERROR else 400)
            self._part(status, f"this is no request of HTTP/1.1: {str(error)[:200]}.")
        else:
            self._part(HTTPStatus.BAD_REQUEST, msg)

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        # A close waits until the other side has read everything, which it may never do.
        self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    def shutdown(self) -> None:
        if self._parting or self.conn.our_state is h11.ERROR:
            self.transport.close()
        else:
            super().shutdown()

    def _watch(self) -> None:
        """Keep the time of whoever has begun a request and not finished its headers, or sends to nobody."""
        theirs = self.conn.their_state
        unread = theirs is h11.SEND_BODY and self.conn.our_state is h11.DONE
        begun = theirs is h11.IDLE and (self.cycle is None or bool(self.conn.trailing_data[0]))
        if not (begun or unread):
            self._unset_timer()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.receive_seconds, self._too_slow)

    def _too_slow(self) -> None:
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            reason = f"the headers did not arrive within {self.receive_seconds:g} seconds."
            self._part(HTTPStatus.REQUEST_TIMEOUT, reason)
        else:
            self.transport.close()

    def _unset_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _part(self, status: HTTPStatus, reason: str, *headers: tuple[str, str]) -> None:
        """Answer a last time, where an answer is still due, then close."""
        self._unset_timer()
        self._parting = True
        # What answers HEAD has no body.
        head = False
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            head = self.cycle.scope["method"] == "HEAD"
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()
            return
        log("refused connection", status=status.value, reason=reason)
        body = json.dumps({"error": reason}).encode()
        self.transport.write(self._last_response(status, b"" if head else body, headers))
        # Whoever has broken the connection off meanwhile hears nothing.
        with suppress(OSError):
            self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    def _last_response(
        self, status: HTTPStatus, body: bytes, headers: tuple[tuple[str, str], ...]
    ) -> bytes:
        fields = [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
            *headers,
        ]
        response = h11.Response(status_code=status, headers=fields, reason=status.phrase.encode())
        events: list[Any] = [response, h11.Data(data=body), h11.EndOfMessage()]
        return b"".join(self.conn.send(event) or b"" for event in events)


def guarded_protocol(receive_seconds: float) -> type[GuardedProtocol]:
    """The protocol with a time for headers, and as many connections as this process may open."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(1, min(MOST_CONNECTIONS, files - OTHER_FILES))
    facts = {"receive_seconds": receive_seconds, "most_connections": most}
    return type("Protocol", (GuardedProtocol,), facts)
