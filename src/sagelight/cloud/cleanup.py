"""The verb `cleanup`: what this project has made in a region, what it costs, and its end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sagelight.cloud.client import Aws, explained
from sagelight.cloud.command import SECONDS_BETWEEN_LOOKS
from sagelight.cloud.deploy import DOOR, standing
from sagelight.cloud.endpoint_follow import PASSING, find_endpoint, wait_endpoint
from sagelight.cloud.endpoint_request import ENDPOINT_TAG, VARIANT, schedule_name
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
    unscale,
    unschedule_named,
)
from sagelight.cloud.models import find_hosting_place, is_absent
from sagelight.cloud.request import OURS
from sagelight.errors import CloudError, ConfigError, Interrupted

_STOPS = {
    "training job": ("stop_training_job", "TrainingJobName"),
    "tuning job": ("stop_hyper_parameter_tuning_job", "HyperParameterTuningJobName"),
    "transform job": ("stop_transform_job", "TransformJobName"),
}


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


def run_cleanup(settings: CleanupSettings) -> None:
    """List what is ours, and delete it; a second time finds nothing.

    Raises:
        ConfigError: not exactly one of endpoint, all and expired.
        CloudError: no such endpoint, one that is not ours, or AWS refuses.
        Interrupted: on Ctrl-C while an endpoint goes; it goes on going.
    """
    chosen = [settings.endpoint is not None, settings.all, settings.expired]
    if sum(chosen) != 1:
        raise ConfigError(
            "what is to go? Type endpoint=NAME, or all=true, or expired=true; dry_run=true only lists it."
        )
    cloud = standing(settings.cloud)
    if cloud.name == "rehearsal" and not cloud.endpoint_url:
        raise CloudError(NO_REHEARSAL)
    place = find_hosting_place(cloud)
    aws = Aws(cloud, place.place.region)
    estate = survey(aws, settings)
    for line in listed(estate):
        print(line)
    region = place.place.region
    if estate.empty:
        print(f"nothing {_of_what(settings)} is left in {region}")
    elif not settings.dry_run:
        clear(aws, estate, SECONDS_BETWEEN_LOOKS[cloud.name])
        print(f"what it was made of, and what it has written, stays in the bucket of {region}")
    _jobs(aws, estate, settings)


NO_REHEARSAL = "no rehearsal stays here. Type python launch/rehearsal.py in another terminal, and what it prints in this one."


def survey(aws: Aws, settings: CleanupSettings) -> Estate:
    """Everything that the settings ask to go.

    Raises:
        CloudError: no such endpoint, one that is not ours, or AWS refuses.
    """
    if settings.endpoint is not None:
        _refuse_foreign(aws, settings.endpoint)
    notes: list[str] = []
    every = Estate(endpoints(aws), configs(aws), models(aws), [], [], notes)
    with _noted(notes):
        every.schedules = schedules(aws)
    with _noted(notes):
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


def clear(aws: Aws, estate: Estate, seconds: float) -> None:
    """Delete an estate: first what costs.

    Raises:
        CloudError: AWS refuses; what is left is listed by the same command.
        Interrupted: on Ctrl-C.
    """
    for endpoint in estate.endpoints:
        _end(aws, endpoint, seconds)
    for name in estate.schedules:
        with _noted(estate.notes):
            unschedule_named(aws, name)
            print(f"deleted   schedule {name}")
    for config in estate.configs:
        _delete(config, aws.sagemaker.delete_endpoint_config, "EndpointConfigName")
    for model in estate.models:
        _delete(model, aws.sagemaker.delete_model, "ModelName")
    for endpoint in estate.endpoints:
        try:
            wait_endpoint(aws, endpoint.name, seconds)
        except KeyboardInterrupt as stop:
            raise Interrupted(f"{endpoint.name} goes on being deleted.") from stop
    for note in estate.notes:
        print(note, file=sys.stderr)


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


def remove_endpoint(aws: Aws, name: str, seconds: float = 2.0) -> None:
    """Delete one endpoint of ours and what belongs to it alone.

    Raises:
        CloudError: no such endpoint, or one that is not ours.
    """
    find_endpoint(aws, name)
    clear(aws, survey(aws, CleanupSettings(endpoint=name)), seconds)


def _end(aws: Aws, endpoint: Thing, seconds: float) -> None:
    from botocore.exceptions import ClientError

    name = endpoint.name
    if endpoint.detail["EndpointStatus"] == "Deleting":
        return
    if endpoint.detail["EndpointStatus"] in PASSING:
        # AWS deletes no endpoint while it works on it.
        print(
            f"waiting for {name}, which cannot be deleted while it is {endpoint.detail['EndpointStatus']}"
        )
        try:
            wait_endpoint(aws, name, seconds)
        except KeyboardInterrupt as stop:
            raise Interrupted(
                f"{name} is still there, and is paid. Type {DOOR} cleanup endpoint={name} to delete it."
            ) from stop
    with _noted([]):
        unscale(aws, f"endpoint/{name}/variant/{VARIANT}")
    with explained(f"deleting the endpoint {name}"):
        try:
            aws.sagemaker.delete_endpoint(EndpointName=name)
        except ClientError as error:
            if not is_absent(error):
                raise
    print(f"deleted   endpoint {name} ({hourly_cost(endpoint)})", flush=True)


def _delete(thing: Thing, delete: Callable[..., object], key: str) -> None:
    from botocore.exceptions import ClientError

    with explained(f"deleting the {thing.kind} {thing.name}"):
        try:
            delete(**{key: thing.name})
        except ClientError as error:
            # Somebody else was quicker.
            if not is_absent(error):
                raise
    print(f"deleted   {thing.kind} {thing.name}")


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
    from sagelight.cloud.endpoint_follow import look_up_endpoint

    state = look_up_endpoint(aws, name)
    if state is not None and tags_of_arn(aws, state.arn).get(OURS) != "true":
        raise CloudError(
            f"endpoint={name} was not made by sagelight, and is left alone. Delete it where it was made."
        )


def _jobs(aws: Aws, estate: Estate, settings: CleanupSettings) -> None:
    for job in estate.jobs:
        if not settings.jobs or settings.dry_run:
            print(
                f"runs      {job.kind} {job.name}: paid until it ends. Type stop job={job.name}, or jobs=true"
            )
            continue
        operation, key = _STOPS[job.kind]
        with explained(f"stopping {job.name}"):
            getattr(aws.sagemaker, operation)(**{key: job.name})
        print(f"stopping  {job.kind} {job.name}")


@contextmanager
def _noted(notes: list[str]) -> Iterator[None]:
    """What only tidies up may be forbidden; that is said, and the rest goes on."""
    try:
        yield
    except CloudError as error:
        notes.append(f"note: {error}")


def _of_what(settings: CleanupSettings) -> str:
    if settings.endpoint is not None:
        return f"of endpoint={settings.endpoint}"
    return "expired" if settings.expired else "of sagelight's"
