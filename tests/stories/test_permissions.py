"""What other stories do not ask for: Clarify, and the end of each kind of job; judged as all of them are."""

from __future__ import annotations

from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from bundles import make_bundle, make_photos
from cloud.endpoints import wish
from permitted import Recorder
from sagelight.cloud.client import Aws
from sagelight.cloud.door import main as cloud
from sagelight.cloud.endpoint_request import EXPIRES_TAG, schedule_body
from sagelight.cloud.follow import KINDS, PROCESSING, TRAINING, TRANSFORM, TUNING
from sagelight.cloud.inventory import unschedule
from sagelight.cloud.jobs import _STOP
from sagelight.cloud.settings import CloudSettings
from sagelight.rehearsal.command import ROLE
from sagelight.rehearsal.server import ACCOUNT, REGION, Rehearsal

ARNS = {
    TRAINING: "training-job",
    TUNING: "hyper-parameter-tuning-job",
    TRANSFORM: "transform-job",
    PROCESSING: "processing-job",
}


@pytest.fixture
def aws(running: Rehearsal) -> Aws:
    return Aws(CloudSettings(name="rehearsal", endpoint_url=running.url), REGION)


def test_an_explanation_asks_for_nothing_more(
    running: Rehearsal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        f"bundle={make_bundle(tmp_path / 'bundle')}",
        f"input={make_photos(tmp_path / 'photos')}",
    ]
    where = ["cloud=rehearsal", f"cloud.endpoint_url={running.url}"]
    assert cloud(["explain", *words, *where]) == 2
    assert "a rehearsal does not have AWS's Clarify" in capsys.readouterr().err


@pytest.mark.parametrize("kind", KINDS)
def test_jobs_are_stopped_where_they_are_ours(
    kind: str, aws: Aws, running: Rehearsal, recorder: Recorder
) -> None:
    for name, tags in {"ours": {"sagelight": "true"}, "theirs": {}}.items():
        arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{ARNS[kind]}/{name}"
        running.sagemaker.tags[arn] = tags
        # There is no such job, which is answered after who asks has been judged.
        with pytest.raises(ClientError):
            _STOP[kind](aws.sagemaker, name)
    [complaint] = recorder.complaints
    assert f"{ARNS[kind]}/theirs" in complaint
    recorder.complaints.clear()


def test_what_takes_long_to_come_to(aws: Aws, running: Rehearsal) -> None:
    """A schedule that is there already, and an endpoint that gets no end any more."""
    arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:endpoint/flowers"
    running.sagemaker.tags[arn] = {"sagelight": "true"}
    aws.sagemaker.delete_tags(ResourceArn=arn, TagKeys=[EXPIRES_TAG])
    asked = wish(f"deploy.scheduler_role={ROLE}")
    for send in (aws.scheduler.create_schedule, aws.scheduler.update_schedule):
        send(**schedule_body(asked))
    unschedule(aws, asked.endpoint)
