"""Sending a deployment: make or update, wait; what fails leaves nothing that costs."""

from __future__ import annotations

import time

from sagelight.cloud.answers import error_code, is_unsure
from sagelight.cloud.client import Aws, explained
from sagelight.cloud.command import SECONDS_BETWEEN_LOOKS
from sagelight.cloud.endpoint_follow import (
    FAILED,
    IN_SERVICE,
    PASSING,
    EndpointState,
    last_log_lines,
    look_up_endpoint,
    mode_of,
    wait_endpoint,
)
from sagelight.cloud.endpoint_plan import DeployPlan
from sagelight.cloud.endpoint_request import (
    EXPIRES_TAG,
    endpoint_body,
    expiry_tags,
    policy_body,
    schedule_body,
    schedule_name,
    target_body,
    update_body,
)
from sagelight.cloud.endpoint_settings import SERVERLESS
from sagelight.cloud.inventory import (
    config_is_there,
    drop_config,
    is_scaled,
    tags_of_arn,
    unscale,
    unschedule,
)
from sagelight.cloud.models import send_model, settled, unless_made
from sagelight.cloud.request import OURS
from sagelight.cloud.undo import DOOR, Undo
from sagelight.errors import CloudError, Interrupted

QUOTA = "another deploy.instance_type or mode=serverless"
LOOKS = 10


def deploy(aws: Aws, plan: DeployPlan) -> None:
    """Send a plan without problems, and wait until the endpoint answers.

    Raises:
        CloudError: AWS refuses, or the endpoint failed: what was made for it has been removed then.
        Interrupted: on Ctrl-C while AWS works; it goes on.
    """
    wish, undo = plan.wish, Undo()
    plan = plan.with_model(settled(aws, plan.model, wish.cloud))
    name, config = wish.endpoint, plan.config["EndpointConfigName"]
    there = _present(aws, plan)
    same = there is not None and there.config == config
    with undo.on_error():
        if not same:
            _send_parts(aws, plan, undo)
        # The end is settled before anything costs.
        _schedule(aws, plan, undo, new=there is None)
        if same:
            print(f"{name} has this configuration already")
            if not wish.scales and wish.mode != SERVERLESS and is_scaled(aws, wish.resource):
                unscale(aws, wish.resource)
        elif there is None:
            _create(aws, plan, undo)
        else:
            _update(aws, plan)
    if there is not None:
        _renew(aws, plan, there)
    if not wish.cloud.follow:
        print(f"{name} is on its way. {_come_back(name)}")
        return
    state = _followed(aws, plan, _come_back(name))
    if state is None:
        raise CloudError(f"{name} was deleted by somebody while it was waited for.")
    _settle(aws, plan, state, undo)
    if wish.scales:
        _scale(aws, plan)
    if there is not None and there.config != config:
        drop_config(aws, there.config)
    _close(plan)


def _present(aws: Aws, plan: DeployPlan) -> EndpointState | None:
    """The endpoint that is there under this name, and may be updated; None when there is none."""
    name, wanted = plan.wish.endpoint, plan.wish.mode
    there = look_up_endpoint(aws, name)
    if there is None:
        return None
    if tags_of_arn(aws, there.arn).get(OURS) != "true":
        raise CloudError(
            f"endpoint={name} is there, and was not made by sagelight. Type another endpoint=NAME."
        )
    if there.status in PASSING and there.config != plan.config["EndpointConfigName"]:
        print(f"{name} is {there.status}; waiting for that")
        there = _followed(aws, plan, "")
        if there is None:
            return None
    if there.status == FAILED:
        raise CloudError(
            f"endpoint={name} is there and failed: {there.reason}. "
            f"Type {DOOR} cleanup endpoint={name}, then repeat the same command."
        )
    kind = mode_of(aws, there)
    if kind != wanted:
        raise CloudError(
            f"endpoint={name} is there with mode={kind}, and an update does not change that. "
            f"Type mode={kind}, or another endpoint=NAME."
        )
    return there


def _send_parts(aws: Aws, plan: DeployPlan, undo: Undo) -> None:
    """The model and the configuration, unless they are there."""
    if send_model(aws, plan.model, plan.wish.cloud):
        model = plan.model.name
        undo.add(f"the model {model}", lambda: aws.sagemaker.delete_model(ModelName=model))
    body = plan.config
    config = body["EndpointConfigName"]
    if config_is_there(aws, config):
        return
    with explained(f"creating the configuration {config}", QUOTA), unless_made():
        aws.sagemaker.create_endpoint_config(**body)
    undo.add(
        f"the configuration {config}",
        lambda: aws.sagemaker.delete_endpoint_config(EndpointConfigName=config),
    )
    for _ in range(LOOKS):
        # What AWS has just written it may not read yet, and CreateEndpoint would then fail.
        if config_is_there(aws, config):
            return
        time.sleep(1)


def _create(aws: Aws, plan: DeployPlan, undo: Undo) -> None:
    name, config = plan.wish.endpoint, plan.config["EndpointConfigName"]
    undo.costly = name
    try:
        with explained(f"creating the endpoint {name}", QUOTA):
            aws.sagemaker.create_endpoint(**endpoint_body(plan.wish, config))
    except CloudError as error:
        lost = "already exist" in str(error) or is_unsure(error.__cause__)
        if not lost:
            raise
        found = _seen(aws, name)
        if found is None:
            # What it is made of must stay for as long as it may be there.
            undo.steps.clear()
            raise CloudError(
                f"{error} {name} may be there all the same, and be paid: the same command finds it, "
                f"and {DOOR} cleanup endpoint={name} removes it."
            ) from error
        if found.config != config:
            raise
    undo.add(f"the endpoint {name}", lambda: aws.sagemaker.delete_endpoint(EndpointName=name))


def _seen(aws: Aws, name: str) -> EndpointState | None:
    """The endpoint, after an answer about it was lost; None where it cannot be seen."""
    try:
        return look_up_endpoint(aws, name)
    except CloudError:
        return None


def _update(aws: Aws, plan: DeployPlan) -> None:
    name, config = plan.wish.endpoint, plan.config["EndpointConfigName"]
    # AWS refuses to change the machines of what it scales.
    unscale(aws, plan.wish.resource)
    try:
        with explained(f"updating the endpoint {name}", QUOTA):
            aws.sagemaker.update_endpoint(**update_body(plan.wish, config))
    except CloudError as error:
        found = _seen(aws, name)
        lost = "in-progress" in str(error) or is_unsure(error.__cause__)
        if not lost or found is None or found.config != config:
            raise
    print(f"{name} goes on answering with what it has until the new is in service")


def _schedule(aws: Aws, plan: DeployPlan, undo: Undo, new: bool) -> None:
    from botocore.exceptions import ClientError

    wish = plan.wish
    if wish.expires is None or wish.scheduler_role is None:
        if not new:
            unschedule(aws, wish.endpoint)
        return
    body = schedule_body(wish)
    with explained("scheduling the end of its time to live"):
        try:
            aws.scheduler.create_schedule(**body)
        except ClientError as error:
            if error_code(error) != "ConflictException":
                raise
            aws.scheduler.update_schedule(**body)
            return
    name = schedule_name(wish.endpoint)
    undo.add(f"the schedule {name}", lambda: aws.scheduler.delete_schedule(Name=name))


def _renew(aws: Aws, plan: DeployPlan, there: EndpointState) -> None:
    """The tag with the end of the time to live, on an endpoint that was there before."""
    with explained(f"tagging {there.name}"):
        if plan.wish.expires is not None:
            aws.sagemaker.add_tags(ResourceArn=there.arn, Tags=expiry_tags(plan.wish))
        elif EXPIRES_TAG in tags_of_arn(aws, there.arn):
            aws.sagemaker.delete_tags(ResourceArn=there.arn, TagKeys=[EXPIRES_TAG])


def _followed(aws: Aws, plan: DeployPlan, come_back: str) -> EndpointState | None:
    """Wait until the endpoint stays as it is; None when it has gone."""
    name = plan.wish.endpoint
    try:
        return wait_endpoint(aws, name, SECONDS_BETWEEN_LOOKS[plan.wish.cloud.name])
    except KeyboardInterrupt as stop:
        raise Interrupted(
            f"{name} goes on, and is paid from when it is in service. {come_back}".strip()
        ) from stop
    except CloudError as error:
        raise CloudError(f"{error} {name} goes on. {come_back}".strip()) from error


def _settle(aws: Aws, plan: DeployPlan, state: EndpointState, undo: Undo) -> None:
    """Go on where the endpoint is as wished; else remove what was made for it, and say why."""
    name, config = plan.wish.endpoint, plan.config["EndpointConfigName"]
    if state.status == IN_SERVICE and state.config == config:
        return
    lines = last_log_lines(aws, name)
    said = "".join(f"\n  {line}" for line in lines)
    log = f" The end of its log:{said}" if lines else ""
    if state.status == IN_SERVICE:
        undo.run()
        reason = state.reason or "AWS took it back"
        raise CloudError(
            f"the update of {name} failed: {reason}. It goes on answering with what it had.{log}"
        )
    was = state.reason or state.status
    if undo.steps:
        undo.run()
        raise CloudError(f"{name} failed: {was}. It has been removed, and costs nothing.{log}")
    raise CloudError(
        f"{name} failed: {was}. Type {DOOR} cleanup endpoint={name} to remove it.{log}"
    )


def _scale(aws: Aws, plan: DeployPlan) -> None:
    wish = plan.wish
    try:
        with explained("setting up autoscaling"):
            aws.scaling.register_scalable_target(**target_body(wish))
            aws.scaling.put_scaling_policy(**policy_body(wish))
    except CloudError as error:
        raise CloudError(
            f"{error} {wish.endpoint} answers, with {wish.deploy.instance_count} machines that stay so. Repeat the "
            f"same command to try again, or type {DOOR} cleanup endpoint={wish.endpoint}."
        ) from error


def _close(plan: DeployPlan) -> None:
    name = plan.wish.endpoint
    print(f"ask     {DOOR} invoke endpoint={name} input=photo.jpg")
    print(f"update  repeat the command with another model and endpoint={name}")
    print(f"remove  {DOOR} cleanup endpoint={name}")


def _come_back(name: str) -> str:
    return f"Repeat the same command to follow it again, or type {DOOR} cleanup endpoint={name} to remove it."
