"""EventBridge Scheduler in the rehearsal: moto keeps the schedules, this fires those that delete endpoints."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from sagelight.rehearsal.refusal import Body, Refusal

SECONDS_BETWEEN_LOOKS = 0.5
_DELETES = ":aws-sdk:sagemaker:deleteEndpoint"


class Schedules:
    """Looks at the clock until it is closed."""

    def __init__(
        self,
        account: str,
        region: str,
        known: Mapping[str, object],
        delete_endpoint: Callable[[Body], Body],
    ) -> None:
        """Arguments: where; the endpoints by name, which change; what deletes one of them."""
        self._account, self._region = account, region
        self._known, self._delete = known, delete_endpoint
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="schedules", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._closed.wait(SECONDS_BETWEEN_LOOKS):
            for group, schedule in self._due():
                self._fire(group, schedule)

    def _due(self) -> list[tuple[Any, Any]]:
        from moto.backends import get_backend

        backend = get_backend("scheduler")[self._account][self._region]
        return [
            (group, schedule)
            for group in list(backend.schedule_groups.values())
            for schedule in list(group.schedules.values())
            # moto is one for all rehearsals of a process; this one ends its own endpoints.
            if _is_due(schedule) and _endpoint(schedule) in self._known
        ]

    def _fire(self, group: Any, schedule: Any) -> None:
        try:
            self._delete({"EndpointName": _endpoint(schedule)})
        except Refusal as refusal:
            # While it is created or updated it cannot be deleted; the service tries again, too.
            if "in-progress" in str(refusal):
                return
        if schedule.action_after_completion == "DELETE":
            group.schedules.pop(schedule.name, None)


def _is_due(schedule: Any) -> bool:
    found = re.fullmatch(r"at\((\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\)", schedule.schedule_expression)
    if found is None or not str(schedule.target["Arn"]).endswith(_DELETES):
        return False
    return datetime.fromisoformat(found.group(1)).replace(tzinfo=UTC) <= datetime.now(UTC)


def _endpoint(schedule: Any) -> str:
    """The endpoint that a schedule deletes; empty where its input names none."""
    try:
        return str(json.loads(schedule.target["Input"])["EndpointName"])
    except (KeyError, TypeError, ValueError):
        return ""
