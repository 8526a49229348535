"""A request that is not served, and why."""

from __future__ import annotations

from http import HTTPStatus


class Refusal(Exception):
    """What is answered instead of a label.

    Attributes:
        status: of the answer; 4xx for what the sender can mend, 503 for what a later try mends.
        headers: of the answer, such as Retry-After.
    """

    def __init__(self, status: HTTPStatus, reason: str, **headers: str) -> None:
        super().__init__(reason)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def busy(reason: str) -> Refusal:
    """503, with the time after which another try is welcome."""
    return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, reason, Retry_After="1")
