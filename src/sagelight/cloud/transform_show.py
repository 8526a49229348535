"""A transform job in words, for a person who is about to pay for it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sagelight.cloud.models import MODEL
from sagelight.cloud.place import gpus
from sagelight.cloud.rules import wall_notices
from sagelight.cloud.transform_inputs import Inputs
from sagelight.cloud.transform_plan import TransformPlan
from sagelight.cloud.transform_request import TRANSFORM_JOB, ceiling_hours
from sagelight.cloud.transform_settings import TransformSettings


def described(plan: TransformPlan) -> str:
    """Model, machines, photos, requests and the ceiling: a screen of text."""
    settings, inputs, body = plan.settings, plan.inputs, plan.body
    client, count = body["ModelClientConfig"], len(inputs.photos)
    machines = f"{settings.instance_count} x {settings.instance_type}"
    lines = [
        f"{TRANSFORM_JOB} {plan.name}",
        f"  model     {plan.model.name} from {plan.model.uri}",
        f"  image     {plan.model.place.image}",
        f"  role      {plan.model.place.role}",
        f"  on        {machines} in {plan.model.place.region}, {body['MaxConcurrentTransforms']} photos at a time "
        f"on each, of at most {body['MaxPayloadInMB']} MB",
        f"  photos    {_photos(inputs, settings)}",
    ]
    lines += [f"  not       {text}" for text in _left_out(inputs)]
    if inputs.known:
        lines.append(f"  requests  {_requests(inputs)}")
        lines.append(
            f"  at most   {ceiling_hours(body, count):.2g} instance-hours, if every photo took timeout_seconds="
            f"{client['InvocationsTimeoutInSeconds']} and all of its {client['InvocationsMaxRetries']} retries; "
            "the API has no longest runtime for a transform job, so stop job=NAME is the only brake"
        )
    lines += [f"  answers   {plan.answers}", f"  table     {plan.table}"]
    lines += [f"  notice    {text}" for text in (*plan.model.notices, *_notices(plan))]
    return "\n".join(lines)


def requests_json(plan: TransformPlan) -> str:
    """The exact requests."""
    return json.dumps({MODEL: plan.model.body, TRANSFORM_JOB: plan.body}, indent=2)


def _photos(inputs: Inputs, settings: TransformSettings) -> str:
    if not inputs.known:
        listed = f"{len(inputs.photos)} of the manifest" if inputs.photos else "not listed yet"
        return f"{settings.input}: {listed}"
    return f"{len(inputs.photos)} of {settings.input}, {inputs.size / 1e6:.1f} MB"


def _left_out(inputs: Inputs) -> list[str]:
    lines = []
    if inputs.left_out:
        lines.append(f"{_few(inputs.left_out)}: no photos by their names")
    if inputs.refused:
        lines.append(
            f"{_few([name for name, _ in inputs.refused])}: they cannot be sent, and go into the table of errors"
        )
    return lines


def _requests(inputs: Inputs) -> str:
    """Batch transform makes one request of one object: photos cannot travel in shards, as they do for training."""
    count = len(inputs.photos)
    up = f"{count} PUT to bring them up, once; then " if inputs.cargo else ""
    return f"to S3, one object a photo: {up}{count} GET and {count} PUT by the job, {count} GET for the answers"


def _notices(plan: TransformPlan) -> list[str]:
    cloud, kind, found = plan.settings.cloud, plan.settings.instance_type, []
    if gpus(kind, plan.model.place.region):
        found.append(
            f"{kind} has GPUs, and a bundle runs on the cores; they would be paid for nothing"
        )
    if cloud.subnets:
        found.append("a transform job has no VPC of its own: it runs in the model's")
    return [*found, *wall_notices(cloud, kind)]


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
