"""Everything that a deployment would be, before anything is sent: the requests, the ceiling, every problem."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sagelight.cloud.contract import violations
from sagelight.cloud.endpoint_request import Call, Wish, calls_of, config_body
from sagelight.cloud.endpoint_rules import endpoint_problems
from sagelight.cloud.endpoint_settings import (
    ASYNC,
    SCHEDULER_VARIABLE,
    SERVERLESS,
    DeploySettings,
    EndpointSettings,
)
from sagelight.cloud.models import (
    MODEL,
    S3,
    ModelPlan,
    Origin,
    find_hosting_place,
    name_of,
    plan_model,
)
from sagelight.cloud.request import pairs_of
from sagelight.cloud.rules import wall_notices
from sagelight.cloud.settings import CloudSettings
from sagelight.config.setting import AUTO

# Photos that are too large for a real-time endpoint are what asynchronous ones are for.
ASYNC_BYTES = 100_000_000
ASYNC_LIMITS = {
    "SAGELIGHT_MAX_BODY_BYTES": str(ASYNC_BYTES),
    "TS_MAX_REQUEST_SIZE": str(ASYNC_BYTES),
}


@dataclass(frozen=True)
class DeployPlan:
    """An endpoint, ready to be made or with the reasons why not.

    Attributes:
        problems: what would be refused or would fail, each saying what to type.
        assumed: what is only known where AWS is set up; nothing is started on it.
        notices: what a person should know, and need not change.
    """

    wish: Wish
    model: ModelPlan
    problems: tuple[str, ...]
    assumed: tuple[str, ...]
    notices: tuple[str, ...]

    @property
    def calls(self) -> list[Call]:
        return list(calls_of(self.wish, self.model.body))

    @property
    def config(self) -> dict[str, Any]:
        """CreateEndpointConfig's arguments."""
        return config_body(self.wish, self.model.name)

    def with_model(self, model: ModelPlan) -> DeployPlan:
        """The same endpoint of another model."""
        return replace(self, model=model)


def make_deploy_plan(settings: DeploySettings, now: datetime | None = None) -> DeployPlan:
    """Plan an endpoint. Nothing is sent and no network is used; what is wrong is collected, not raised.

    Args:
        now: when the time to live begins; None for the clock's time.

    Raises:
        CloudError: the packages of the AWS side are not installed.
    """
    deploy, cloud = settings.deploy, settings.cloud
    found = find_hosting_place(cloud)
    origin = Origin(settings.job, settings.bundle)
    limits = ASYNC_LIMITS if settings.mode == ASYNC else {}
    environment = {**limits, **(pairs_of(deploy.environment) or {})}
    model = plan_model(origin, cloud, found, deploy.image, environment, "deploy.image")
    begins = (now or datetime.now(UTC)).replace(microsecond=0)
    wish = Wish(
        _endpoint(settings, model),
        settings.mode,
        deploy,
        cloud,
        model.place,
        begins + timedelta(hours=deploy.hours) if deploy.hours is not None else None,
        scheduler_role(deploy, cloud, model.place.role),
    )
    problems = [*found.problems, *model.problems, *endpoint_problems(wish)]
    if not any(problem.startswith("endpoint=") for problem in problems):
        problems += _violations(wish, model)
    notices = [*model.notices, *_notices(wish)]
    return DeployPlan(wish, model, tuple(problems), found.assumed, tuple(notices))


def described(plan: DeployPlan) -> str:
    """What will answer, where, and what it can cost: a screen of text."""
    wish = plan.wish
    lines = [
        f"endpoint {wish.endpoint} ({wish.mode}) in {wish.place.region}",
        f"  model     {plan.model.name}",
        f"            {plan.model.uri}",
        f"  on        {_machines(wish)}",
        f"  image     {wish.place.image}",
        f"  role      {wish.place.role}",
    ]
    packed = plan.model.packed
    if packed is not None:
        lines.append(
            f"  goes up   {len(packed.files)} files of {packed.folder}, {packed.size / 1e6:.1f} MB, "
            "unless they are there"
        )
    if wish.mode == ASYNC:
        output = plan.config["AsyncInferenceConfig"]["OutputConfig"]["S3OutputPath"]
        lines.append(f"  answers   {output}")
    if wish.deploy.capture_percent:
        capture = plan.config["DataCaptureConfig"]
        lines.append(
            f"  keeps     {wish.deploy.capture_percent} % of photos and answers in {capture['DestinationS3Uri']}"
        )
    lines += [f"  until     {_end(wish)}", f"  costs     {cost_per_hour(wish)}"]
    lines.append(f"  at most   {ceiling(wish)}")
    lines += [f"  notice    {text}" for text in plan.notices]
    return "\n".join(lines)


def requests_json(plan: DeployPlan) -> str:
    """The exact requests, in the order in which they are sent."""
    return json.dumps({call.operation: call.body for call in plan.calls}, indent=2)


def cost_per_hour(wish: Wish) -> str:
    """What an hour costs, in the units of the bill."""
    deploy = wish.deploy
    if wish.mode == SERVERLESS:
        warm = deploy.provisioned_concurrency
        idle = (
            f"{_gb_hours(wish, warm)} GB-hours an hour, and more" if warm else "nothing while idle;"
        )
        return f"{idle} while it answers, {deploy.memory_mb / 1024:g} GB for each second and request at once"
    least = min(deploy.min_instances, deploy.instance_count) if wish.scales else wish.machines
    many = f"{least} to {wish.machines}" if least != wish.machines else f"{least}"
    return f"{many} instance-hour{'' if wish.machines == 1 else 's'} of {deploy.instance_type} an hour, asked or not"


def scheduler_role(deploy: EndpointSettings, cloud: CloudSettings, role: str) -> str | None:
    """ARN of the role that ends endpoints; `deploy.scheduler_role`, resolved."""
    if deploy.scheduler_role != AUTO:
        return deploy.scheduler_role
    # A rehearsal has no roles to speak of, and ends what is over.
    known = role if cloud.name == "rehearsal" else None
    return os.environ.get(SCHEDULER_VARIABLE) or known


def ceiling(wish: Wish) -> str:
    """What cannot be exceeded by the end of the time to live, if something ends it then."""
    hours = wish.deploy.hours
    if hours is None:
        return "no end (deploy.hours=null): it is paid until you type cleanup endpoint=" + (
            wish.endpoint
        )
    if wish.mode == SERVERLESS:
        many = wish.deploy.max_concurrency
        sum_, how = f"{_gb_hours(wish, many * hours)} GB-hours", f"{many} at once x {hours:g} h"
    else:
        sum_ = f"{wish.machines * hours:g} instance-hours"
        how = f"{wish.machines} x {hours:g} h"
    unless = "" if wish.scheduler_role else ", if you delete it then: nothing else will"
    return f"{sum_}: {how} (deploy.hours){unless}"


def _end(wish: Wish) -> str:
    if wish.expires is None:
        return "you delete it"
    when = f"{wish.expires:%Y-%m-%d %H:%M} UTC"
    if wish.scheduler_role:
        return f"{when}; then EventBridge Scheduler deletes it"
    return f"{when} (a tag, which cleanup expired=true obeys)"


def _machines(wish: Wish) -> str:
    deploy = wish.deploy
    if wish.mode == SERVERLESS:
        return f"{deploy.memory_mb} MB, {deploy.max_concurrency} requests at once"
    scaled = (
        f", {deploy.min_instances} to {wish.machines} by load (target {deploy.target_per_instance:g})"
        if wish.scales
        else ""
    )
    return f"{deploy.instance_count} x {deploy.instance_type}{scaled}"


def _gb_hours(wish: Wish, hours: float) -> str:
    return f"{hours * wish.deploy.memory_mb / 1024:g}"


def _notices(wish: Wish) -> list[str]:
    found = []
    if wish.expires and not wish.scheduler_role:
        found.append(
            f"nothing deletes the endpoint at {wish.expires:%H:%M} UTC by itself. Type deploy.scheduler_role=ARN of a "
            f"role that EventBridge Scheduler may use to call sagemaker:DeleteEndpoint (or set {SCHEDULER_VARIABLE}), "
            "or run cleanup expired=true every hour from a cron of yours"
        )
    if wish.scales and wish.deploy.min_instances == 0:
        found.append(
            "from none, a machine comes only when more than deploy.target_per_instance requests wait: "
            "Type deploy.target_per_instance=1 for few requests"
        )
    if wish.mode != SERVERLESS:
        found += wall_notices(wish.cloud, wish.deploy.instance_type)
    if wish.deploy.capture_percent:
        found.append("whoever reads the bucket sees the photos that are kept")
    if wish.cloud.name == "rehearsal":
        found.append(
            "a rehearsal runs this project's server, whatever the image is, as one process on this machine"
        )
    return found


def _violations(wish: Wish, model: ModelPlan) -> list[str]:
    found = []
    for call in calls_of(wish, model.body):
        if call.operation != MODEL:
            found += violations(call.operation, call.body, call.service)
    return found


def _endpoint(settings: DeploySettings, model: ModelPlan) -> str:
    if settings.endpoint != AUTO:
        return settings.endpoint
    if settings.job:
        return settings.job
    return name_of(_stem(model), model.uri)


def _stem(model: ModelPlan) -> str:
    if model.packed is not None:
        return model.packed.backbone
    return Path(model.uri.removeprefix(S3)).parent.name or "photos"
