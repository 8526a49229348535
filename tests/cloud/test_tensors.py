"""A trial in S3, judged here: the verb `debug` with an address, and what a job's rules came to."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud.conftest import Answer
from debugging.trials import healthy, leave_trial
from sagelight.cli import main
from sagelight.cloud.client import Aws
from sagelight.cloud.jobs import rule_lines
from sagelight.cloud.settings import CloudSettings
from sagelight.cloud.tensors import fetch_trial, trial_uri
from sagelight.rehearsal.server import REGION, Rehearsal, rehearsal
from stories.commands import refused_by

BUCKET = "tensors-of-ours"
JOB = "jobs/a-job"
RULE = "rules=[VanishingGradient]"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    """A rehearsal whose S3 holds a trial, where the service would put it, beside other things."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("trial")
    trial = leave_trial(folder / "trial", [healthy(step, rng) for step in range(6)])
    with rehearsal() as started:
        s3 = aws(started).s3
        s3.create_bucket(Bucket=BUCKET)
        for path in (path for path in trial.rglob("*") if path.is_file()):
            s3.upload_file(
                str(path), BUCKET, f"{JOB}/debug-output/{path.relative_to(trial).as_posix()}"
            )
        for key in ("output/model.tar.gz", "debug-output/claim.smd", "debug-output/index/1.tmp"):
            s3.put_object(Bucket=BUCKET, Key=f"{JOB}/{key}", Body=b"x")
        s3.put_object(Bucket=BUCKET, Key=f"{JOB}-2/index/0/0.json", Body=b"x")
        yield started


def aws(running: Rehearsal) -> Aws:
    return Aws(CloudSettings(name="rehearsal", endpoint_url=running.url), REGION)


def words(running: Rehearsal, uri: str) -> list[str]:
    return [
        "debug",
        f"trial={uri}",
        RULE,
        "cloud=rehearsal",
        f"cloud.endpoint_url={running.url}",
        f"cloud.region={REGION}",
    ]


@pytest.mark.parametrize("below", ["/debug-output", "/debug-output/", "", "/"])
def test_an_address_is_judged_as_a_folder_is(
    below: str, running: Rehearsal, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = f"s3://{BUCKET}/{JOB}{below}"
    assert main(words(running, uri)) == 0
    heading, verdict = capsys.readouterr().out.splitlines()
    assert heading == f"{uri}: 3 tensors, steps: 6 of TRAIN"
    assert verdict == "NoIssuesFound   VanishingGradient: 6 values"


def test_only_the_trial_is_downloaded(running: Rehearsal, tmp_path: Path) -> None:
    count = fetch_trial(aws(running), f"s3://{BUCKET}/{JOB}", tmp_path / "here")
    names = {path.relative_to(tmp_path / "here").parts[0] for path in tmp_path.rglob("*.*")}
    assert names == {"collections", "events", "index", "training_job_end.ts"}
    assert count == sum(path.is_file() for path in tmp_path.rglob("*"))


@pytest.mark.parametrize(
    ("uri", "part"),
    [
        (f"s3://{BUCKET}/nothing", "no trial lies there: neither index/ nor collections/. Type trial=s3://"),
        (f"s3://{BUCKET}/{JOB}/output", "no trial lies there"),
        (f"s3://{BUCKET}/jobs/a-jo", "no trial lies there"),
        ("s3://nobodys-bucket/a", "there is no bucket nobodys-bucket. Type trial=s3://BUCKET/PREFIX"),
        ("s3://", "names no bucket. Type trial=s3://BUCKET/PREFIX"),
    ],
)  # fmt: skip
def test_an_address_without_a_trial_is_refused(
    uri: str, part: str, running: Rehearsal, capsys: pytest.CaptureFixture[str]
) -> None:
    assert part in refused_by(main, capsys, *words(running, uri))


def test_without_credentials_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    message = refused_by(main, capsys, "debug", f"trial=s3://{BUCKET}/{JOB}", RULE)
    assert message.startswith(f"looking into s3://{BUCKET}/{JOB} failed: there are no AWS cred")


def test_what_may_not_be_read_is_told(
    refusing: Callable[[Callable[[str, str], Answer]], str], capsys: pytest.CaptureFixture[str]
) -> None:
    url = refusing(lambda method, target: (403, {}, ""))
    asked = ["debug", f"trial=s3://{BUCKET}/{JOB}", RULE]
    cloud = ["cloud=rehearsal", f"cloud.endpoint_url={url}"]
    assert "Your credentials may not do that." in refused_by(main, capsys, *asked, *cloud)


def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    monkeypatch.setattr("sagelight.cloud.extra.find_spec", lambda name: None)
    message = refused_by(main, capsys, "debug", f"trial=s3://{BUCKET}/{JOB}", RULE)
    assert message.endswith("Type pip install 'sagelight[aws]'.")


def test_where_a_job_keeps_its_tensors() -> None:
    described: dict[str, Any] = {"TrainingJobName": "a-job"}
    assert trial_uri(described) is None
    described["DebugHookConfig"] = {"S3OutputPath": f"s3://{BUCKET}/jobs/"}
    assert trial_uri(described) == f"s3://{BUCKET}/{JOB}/debug-output"


def test_a_jobs_rules_are_a_line_each() -> None:
    described = {
        "DebugRuleEvaluationStatuses": [
            {
                "RuleConfigurationName": "Overfit",
                "RuleEvaluationStatus": "IssuesFound",
                "StatusDetails": "RuleEvaluationConditionMet: Evaluation\n of the rule Overfit",
            },
            {
                "RuleConfigurationName": "VanishingGradient",
                "RuleEvaluationStatus": "NoIssuesFound",
            },
        ],
        "ProfilerRuleEvaluationStatuses": [
            {"RuleConfigurationName": "ProfilerReport", "RuleEvaluationStatus": "InProgress"}
        ],
    }
    assert list(rule_lines(described)) == [
        "  IssuesFound   Overfit: RuleEvaluationConditionMet: Evaluation of the rule Overfit",
        "  NoIssuesFound VanishingGradient",
        "  InProgress    ProfilerReport",
    ]
    assert list(rule_lines({"DebugRuleEvaluationStatuses": []})) == []
