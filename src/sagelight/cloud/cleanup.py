"""The verb `cleanup`: what this project has made in a region, what it costs, and its end."""

from __future__ import annotations

import sys
from collections.abc import Callable

from sagelight.cloud.client import Aws, explained
from sagelight.cloud.command import SECONDS_BETWEEN_LOOKS
from sagelight.cloud.deploy import standing
from sagelight.cloud.endpoint_follow import PASSING, find_endpoint, wait_endpoint
from sagelight.cloud.endpoint_request import VARIANT
from sagelight.cloud.endpoint_settings import CleanupSettings
from sagelight.cloud.estate import Estate, listed, noted, survey
from sagelight.cloud.inventory import Thing, hourly_cost, unscale, unschedule_named
from sagelight.cloud.models import unless_gone
from sagelight.cloud.place import region_of
from sagelight.cloud.undo import DOOR
from sagelight.errors import CloudError, ConfigError, Interrupted

NO_REHEARSAL = "no rehearsal stays here. Type python launch/rehearsal.py in another terminal, and what it prints in this one."
_STOPS = {
    "training job": ("stop_training_job", "TrainingJobName"),
    "tuning job": ("stop_hyper_parameter_tuning_job", "HyperParameterTuningJobName"),
    "transform job": ("stop_transform_job", "TransformJobName"),
}


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
    region = region_of(cloud)
    aws = Aws(cloud, region)
    estate = survey(aws, settings)
    for line in listed(estate):
        print(line)
    if estate.empty:
        print(f"nothing {_of_what(settings)} is left in {region}")
    elif not settings.dry_run:
        clear(aws, estate, SECONDS_BETWEEN_LOOKS[cloud.name])
        print(f"what it was made of, and what it has written, stays in the bucket of {region}")
    _jobs(aws, estate, settings)
    for note in estate.notes:
        print(note, file=sys.stderr)


def clear(aws: Aws, estate: Estate, seconds: float) -> None:
    """Delete an estate: first what costs.

    Raises:
        CloudError: AWS refuses; what is left is listed by the same command.
        Interrupted: on Ctrl-C.
    """
    for endpoint in estate.endpoints:
        _end(aws, endpoint, seconds, estate.notes)
    for name in estate.schedules:
        with noted(estate.notes):
            unschedule_named(aws, name)
            print(f"deleted   schedule {name}")
    # Whose models they are, only configurations know: these go last.
    for model in estate.models:
        _delete(model, aws.sagemaker.delete_model, "ModelName")
    for config in estate.configs:
        _delete(config, aws.sagemaker.delete_endpoint_config, "EndpointConfigName")
    for endpoint in estate.endpoints:
        try:
            wait_endpoint(aws, endpoint.name, seconds)
        except KeyboardInterrupt as stop:
            raise Interrupted(f"{endpoint.name} goes on being deleted.") from stop


def remove_endpoint(aws: Aws, name: str, seconds: float = 2.0) -> None:
    """Delete one endpoint of ours and what belongs to it alone.

    Raises:
        CloudError: no such endpoint, or one that is not ours.
    """
    find_endpoint(aws, name)
    clear(aws, survey(aws, CleanupSettings(endpoint=name)), seconds)


def _end(aws: Aws, endpoint: Thing, seconds: float, notes: list[str]) -> None:
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
    with noted(notes):
        unscale(aws, f"endpoint/{name}/variant/{VARIANT}")
    with explained(f"deleting the endpoint {name}"), unless_gone():
        aws.sagemaker.delete_endpoint(EndpointName=name)
    print(f"deleted   endpoint {name} ({hourly_cost(endpoint)})", flush=True)


def _delete(thing: Thing, delete: Callable[..., object], key: str) -> None:
    with explained(f"deleting the {thing.kind} {thing.name}"), unless_gone():
        delete(**{key: thing.name})
    print(f"deleted   {thing.kind} {thing.name}")


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


def _of_what(settings: CleanupSettings) -> str:
    if settings.endpoint is not None:
        return f"of endpoint={settings.endpoint}"
    return "expired" if settings.expired else "of sagelight's"
