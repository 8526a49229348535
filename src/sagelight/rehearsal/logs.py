"""A job's output into the rehearsal's CloudWatch Logs, where a real job's output lies."""

from __future__ import annotations

import threading
import time
from typing import Any

from sagelight.cloud.answers import error_code

GROUP = "/aws/sagemaker/TrainingJobs"
SECONDS_BETWEEN_WRITES = 0.5


class LogStream:
    """A stream of a group, written in batches, in order."""

    def __init__(
        self,
        logs: Any,
        job: str,
        machine: int = 1,
        group: str = GROUP,
        name: str | None = None,
    ) -> None:
        """Open a training job's `<job>/algo-<machine>-<time>`, or the stream `name` of another group."""
        self._logs = logs
        self._group = group
        self._name = name or f"{job}/algo-{machine}-{int(time.time())}"
        self._waiting: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._create()
        self._writer = threading.Thread(target=self._write_often, daemon=True)
        self._writer.start()

    def write(self, line: str) -> None:
        """Add one line."""
        with self._lock:
            # The service refuses empty messages.
            self._waiting.append({"timestamp": int(time.time() * 1000), "message": line or " "})

    def close(self) -> None:
        """Write what is left."""
        self._closed.set()
        self._writer.join()
        self._flush()

    def _write_often(self) -> None:
        while not self._closed.wait(SECONDS_BETWEEN_WRITES):
            self._flush()

    def _flush(self) -> None:
        with self._lock:
            events, self._waiting = self._waiting, []
        if events:
            self._logs.put_log_events(
                logGroupName=self._group, logStreamName=self._name, logEvents=events
            )

    def _create(self) -> None:
        from botocore.exceptions import ClientError

        try:
            self._logs.create_log_group(logGroupName=self._group)
        except ClientError as error:
            # Every job of a kind writes into the same group. (A client's own exception classes are not safe among threads.)
            if error_code(error) != "ResourceAlreadyExistsException":
                raise
        self._logs.create_log_stream(logGroupName=self._group, logStreamName=self._name)
