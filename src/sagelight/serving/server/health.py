"""Whether the network answers, as its last run showed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class Health:
    """Unhealthy until an inference has succeeded, and again from a failed one to the next that succeeds.

    Attributes:
        reason: why it is unhealthy; empty when it is healthy.
    """

    def __init__(self, probe: Callable[[], Awaitable[object]]) -> None:
        """`probe` runs one inference, and raises when it fails."""
        self.reason = "the network has not answered yet"
        self._probe = probe
        self._probing: asyncio.Task[None] | None = None

    def answered(self) -> None:
        self.reason = ""

    def failed(self, reason: str) -> None:
        self.reason = reason

    def probe(self) -> None:
        """Try an inference in the background, unless one is being tried."""
        if self._probing is None or self._probing.done():
            self._probing = asyncio.create_task(self._try())

    async def _try(self) -> None:
        try:
            await self._probe()
        except Exception as error:  # Whatever it is, the network did not answer.
            self.failed(str(error))
        else:
            self.answered()
