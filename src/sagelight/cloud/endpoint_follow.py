"""An endpoint as the service describes it, and waiting for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sagelight.cloud.answers import error_code
from sagelight.cloud.client import Aws, explained
from sagelight.cloud.endpoint_settings import ASYNC, REALTIME, SERVERLESS
from sagelight.cloud.models import is_absent
from sagelight.errors import CloudError

LOG_GROUP = "/aws/sagemaker/Endpoints/{}"
IN_SERVICE, FAILED = "InService", "Failed"
# What passes by itself.
PASSING = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
LAST_LINES = 12


@dataclass(frozen=True)
class EndpointState:
    """The answer of DescribeEndpoint."""

    described: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.described["EndpointName"])

    @property
    def arn(self) -> str:
        return str(self.described["EndpointArn"])

    @property
    def status(self) -> str:
        return str(self.described["EndpointStatus"])

    @property
    def config(self) -> str:
        return str(self.described.get("EndpointConfigName", ""))

    @property
    def reason(self) -> str:
        return str(self.described.get("FailureReason", "")).rstrip(".")


def look_up_endpoint(aws: Aws, name: str) -> EndpointState | None:
    """Describe an endpoint; None when there is none of that name.

    Raises:
        CloudError: AWS refuses the question.
    """
    from botocore.exceptions import ClientError

    with explained(f"looking up the endpoint {name}"):
        try:
            return EndpointState(aws.sagemaker.describe_endpoint(EndpointName=name))
        except ClientError as error:
            if is_absent(error):
                return None
            raise


def find_endpoint(aws: Aws, name: str) -> EndpointState:
    """Describe an endpoint.

    Raises:
        CloudError: there is none of that name in this region.
    """
    state = look_up_endpoint(aws, name)
    if state is None:
        raise CloudError(
            f"endpoint={name}: there is no such endpoint in {aws.sagemaker.meta.region_name}. Type endpoint=NAME as it "
            "was printed when it was deployed, and cloud.region=REGION of where that was; "
            "cleanup all=true dry_run=true lists yours."
        )
    return state


def mode_of(aws: Aws, state: EndpointState) -> str:
    """How an endpoint answers: `realtime`, `serverless` or `async`."""
    if state.described.get("AsyncInferenceConfig"):
        return ASYNC
    variants = state.described.get("ProductionVariants") or ()
    if any(variant.get("CurrentServerlessConfig") for variant in variants):
        return SERVERLESS
    if variants:
        return REALTIME
    # While it is created, only its configuration tells.
    with explained(f"looking up the configuration {state.config}"):
        config = aws.sagemaker.describe_endpoint_config(EndpointConfigName=state.config)
    if config.get("AsyncInferenceConfig"):
        return ASYNC
    variant = config["ProductionVariants"][0]
    return SERVERLESS if variant.get("ServerlessConfig") else REALTIME


def wait_endpoint(aws: Aws, name: str, seconds: float) -> EndpointState | None:
    """Print an endpoint's states until one stays; None when it has gone.

    Args:
        seconds: between two looks.

    Raises:
        CloudError: AWS refuses the question.
        KeyboardInterrupt: on Ctrl-C; what was begun goes on.
    """
    said, began = "", time.monotonic()
    while True:
        state = look_up_endpoint(aws, name)
        if state is None:
            return None
        if state.status != said:
            said = state.status
            after = f" after {time.monotonic() - began:.0f} s" if said not in PASSING else ""
            print(f"{name}: {said}{after}", flush=True)
        if state.status not in PASSING:
            return state
        time.sleep(seconds)


def last_log_lines(aws: Aws, name: str) -> list[str]:
    """The end of what an endpoint's containers have printed; none where there is no log."""
    from botocore.exceptions import ClientError

    group = LOG_GROUP.format(name)
    with explained(f"reading the log of {name}"):
        try:
            found = aws.logs.describe_log_streams(logGroupName=group)["logStreams"]
            lines = [line for stream in found for line in _tail(aws, group, stream)]
        except ClientError as error:
            if error_code(error) == "ResourceNotFoundException":
                return []
            raise
    return lines[-LAST_LINES:]


def _tail(aws: Aws, group: str, stream: dict[str, Any]) -> Iterator[str]:
    answer = aws.logs.get_log_events(
        logGroupName=group, logStreamName=stream["logStreamName"], limit=LAST_LINES
    )
    for event in answer["events"]:
        yield event["message"]
