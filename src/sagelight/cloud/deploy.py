"""The verb `deploy`: plan, show, send; a rehearsal of its own stays until Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import threading
from dataclasses import replace
from urllib.parse import urlparse

from sagelight.cloud.client import Aws
from sagelight.cloud.command import backend
from sagelight.cloud.endpoint import LOOPBACK
from sagelight.cloud.endpoint_plan import described, make_deploy_plan, requests_json
from sagelight.cloud.endpoint_send import deploy
from sagelight.cloud.endpoint_settings import DeploySettings
from sagelight.cloud.settings import CloudSettings
from sagelight.cloud.show import listed_problems
from sagelight.cloud.undo import DOOR
from sagelight.errors import CloudError


def run_deploy(settings: DeploySettings) -> None:
    """Make an endpoint, or update the one of that name; with `dry_run=true` only say what would be sent.

    Raises:
        CloudError: everything that is wrong with it, in one list, or what AWS refuses.
        Interrupted: on Ctrl-C while AWS works; it goes on.
    """
    cloud = standing(settings.cloud)
    plan = make_deploy_plan(replace(settings, cloud=cloud))
    print(described(plan))
    if settings.dry_run:
        print(requests_json(plan))
        for note in (*plan.assumed, *plan.model.assumed):
            print(f"note: {note}")
    if plan.problems:
        raise CloudError(
            listed_problems(plan.problems).replace("this job has", "this endpoint has")
        )
    if settings.dry_run:
        return
    if plan.assumed:
        raise CloudError(plan.assumed[0])
    with backend(cloud) as reached:
        aws = Aws(reached, plan.wish.place.region)
        deploy(aws, plan)
        if reached is not cloud:
            _stay(plan.wish.endpoint, str(reached.endpoint_url))


def standing(cloud: CloudSettings) -> CloudSettings:
    """With `cloud=rehearsal`, the rehearsal that launch/rehearsal.py keeps, where its address is exported."""
    known = os.environ.get("AWS_ENDPOINT_URL", "")
    if cloud.name != "rehearsal" or cloud.endpoint_url or urlparse(known).hostname != LOOPBACK:
        return cloud
    return replace(cloud, endpoint_url=known)


def _stay(name: str, url: str) -> None:
    """A rehearsal of one's own ends with the command, and its endpoint with it: so the command stays."""
    ended = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: ended.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        print(
            f"\n{name} answers here until Ctrl-C. In another terminal:\n\n"
            f"{DOOR} invoke endpoint={name} input=photo.jpg cloud=rehearsal cloud.endpoint_url={url}",
            flush=True,
        )
        ended.wait()
        print("\nending the rehearsal and its endpoint", file=sys.stderr)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
