"""What is to go: everything of ours, one endpoint with its parts, or what is over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sagelight.cloud.answers import error_code
from sagelight.cloud.client import FORBIDDEN, Aws
from sagelight.cloud.endpoint_follow import look_up_endpoint
from sagelight.cloud.endpoint_request import ENDPOINT_TAG, schedule_name
from sagelight.cloud.endpoint_settings import CleanupSettings
from sagelight.cloud.inventory import (
    Thing,
    configs,
    endpoints,
    hourly_cost,
    models,
    models_of,
    running_jobs,
    schedules,
    tags_of_arn,
)
from sagelight.cloud.request import OURS
from sagelight.errors import CloudError


@dataclass
class Estate:
    """What is to go, in the order in which it goes; `notes` is what could not be looked for."""

    endpoints: list[Thing]
    configs: list[Thing]
    models: list[Thing]
    schedules: list[str]
    jobs: list[Thing]
    notes: list[str] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        return not (self.endpoints or self.configs or self.models or self.schedules)


def survey(aws: Aws, settings: CleanupSettings) -> Estate:
    """Everything that the settings ask to go.

    Raises:
        CloudError: no such endpoint, one that is not ours, or AWS refuses.
    """
    if settings.endpoint is not None:
        _refuse_foreign(aws, settings.endpoint)
    notes: list[str] = []
    every = Estate(endpoints(aws), configs(aws), models(aws), [], [], notes)
    with noted(notes):
        every.schedules = schedules(aws)
    # They are paid: only who may not look is told nothing of them.
    with noted(notes, FORBIDDEN):
        every.jobs = running_jobs(aws) if settings.all else []
    if settings.all:
        return every
    now = datetime.now(UTC)
    names = {
        thing.name
        for thing in every.endpoints
        if thing.name == settings.endpoint
        or (settings.expired and thing.expires is not None and thing.expires <= now)
    }
    if settings.endpoint is not None:
        # Its parts may have outlived it.
        names.add(settings.endpoint)
    return _belonging(every, names)


def listed(estate: Estate) -> list[str]:
    """A line for each thing, with what it costs until it is deleted."""
    lines = []
    for endpoint in estate.endpoints:
        expires = endpoint.expires
        until = f", to go {expires:%Y-%m-%d %H:%M} UTC" if expires else ", with no end"
        lines.append(
            f"endpoint  {endpoint.name}: {endpoint.detail['EndpointStatus']}, {hourly_cost(endpoint)}{until}"
        )
    for kind, things in (("config", estate.configs), ("model", estate.models)):
        lines += [f"{kind:9} {thing.name}: costs nothing" for thing in things]
    lines += [f"schedule  {name}: costs nothing" for name in estate.schedules]
    return lines


@contextmanager
def noted(notes: list[str], codes: tuple[str, ...] | None = None) -> Iterator[None]:
    """What only tidies up may fail, or be refused with one of these codes; that is said, and the rest goes on."""
    try:
        yield
    except CloudError as error:
        if codes is not None and error_code(error.__cause__) not in codes:
            raise
        notes.append(f"note: {error}")


def _belonging(every: Estate, names: set[str]) -> Estate:
    """Endpoints of these names, their configurations, and the models that no other configuration has."""
    ours = [thing for thing in every.endpoints if thing.name in names]
    current = {thing.detail.get("EndpointConfigName") for thing in ours}
    gone = [
        thing
        for thing in every.configs
        if thing.tags.get(ENDPOINT_TAG) in names or thing.name in current
    ]
    kept = {model for config in every.configs if config not in gone for model in models_of(config)}
    used = {model for config in gone for model in models_of(config)} - kept
    return Estate(
        ours,
        gone,
        [thing for thing in every.models if thing.name in used],
        [name for name in every.schedules if name in {schedule_name(each) for each in names}],
        [],
        every.notes,
    )


def _refuse_foreign(aws: Aws, name: str) -> None:
    state = look_up_endpoint(aws, name)
    if state is not None and tags_of_arn(aws, state.arn).get(OURS) != "true":
        raise CloudError(
            f"endpoint={name} was not made by sagelight, and is left alone. Delete it where it was made."
        )
