"""What the rehearsed API answers: a body, or an error as the service words it."""

from __future__ import annotations

from typing import Any

Body = dict[str, Any]


class Refusal(Exception):
    """An error of the API: its code, and the message as the service words it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
