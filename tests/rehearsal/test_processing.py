"""Clarify in the rehearsal: taken as far as it is true, and its results fetched whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bundles import make_bundle, make_photos
from cloud.test_clarify import CLARIFY
from rehearsal.conftest import BUCKET, Stage
from sagelight.cloud.clarify import fetch_results
from sagelight.cloud.clarify_request import (
    analysis,
    config_text,
    config_uri,
    processing_body,
)
from sagelight.cloud.clarify_settings import ClarifySettings
from sagelight.cloud.client import Aws
from sagelight.cloud.door import main
from sagelight.cloud.settings import CloudSettings
from sagelight.errors import ArchiveError, CloudError
from sagelight.rehearsal.server import REGION
from stories.commands import refused_by

PLACE = CLARIFY.__class__(REGION, CLARIFY.role, BUCKET, CLARIFY.image)


def send(stage: Stage, settings: ClarifySettings, text: str | None = None) -> dict[str, Any]:
    """Start a job on the photos below p/, and describe it."""
    asked = analysis(settings, "nothing-0123456789", ["a"])
    body = processing_body(settings, asked, PLACE, f"s3://{BUCKET}/p/", "")
    key = config_uri(body).removeprefix(f"s3://{BUCKET}/")
    stage.s3.put_object(Bucket=BUCKET, Key=key, Body=(text or config_text(asked)).encode())
    stage.sagemaker.create_processing_job(**body)
    name = body["ProcessingJobName"]
    return dict(stage.sagemaker.describe_processing_job(ProcessingJobName=name))


def test_the_whole_way_ends_where_awss_image_would_begin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = make_bundle(tmp_path / "bundle", backbone="resnet18")
    photos = make_photos(tmp_path / "photos", each=1)
    words = [f"bundle={bundle}", f"input={photos}", "cloud=rehearsal", "cloud.region=us-east-1"]
    role = f"cloud.role={CLARIFY.role}"
    message = refused_by(main, capsys, "explain", *words, role, f"output={tmp_path}/out")
    assert "has no results: Stopped, not run: a rehearsal does not have AWS's Clarify" in message
    assert "python launch/local.py explain" in message
    assert not (tmp_path / "out").exists()


def test_what_clarify_would_fail_at_before_it_starts_fails_here(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    found = send(stage, ClarifySettings())
    assert found["ProcessingJobStatus"] == "Failed"
    assert f"no object lies under s3://{BUCKET}/p/" in found["FailureReason"]
    stage.s3.put_object(Bucket=BUCKET, Key="p/a.jpg", Body=b"photo")
    found = send(stage, ClarifySettings(attempt=2))
    assert "predictor.model_name: nothing-0123456789 does not exist" in found["FailureReason"]
    found = send(stage, ClarifySettings(attempt=3, endpoint="none"))
    assert "predictor.endpoint_name: none does not exist" in found["FailureReason"]
    found = send(stage, ClarifySettings(attempt=4), "{")
    assert "is no analysis configuration" in found["FailureReason"]
    name = found["ProcessingJobName"]
    where = ["cloud=rehearsal", f"cloud.endpoint_url={stage.running.url}"]
    assert main(["status", f"job={name}", *where]) == 0
    assert f"{name}: Failed: ClientError: s3://" in capsys.readouterr().out
    assert main(["stop", f"job={name}", *where]) == 0
    assert "has ended already: Failed" in capsys.readouterr().out
    with pytest.raises(stage.sagemaker.exceptions.ResourceInUse, match="must be unique"):
        send(stage, ClarifySettings(attempt=4))
    with pytest.raises(
        stage.sagemaker.exceptions.ClientError, match="Could not find requested job"
    ):
        stage.sagemaker.stop_processing_job(ProcessingJobName="nobody")


def test_results_come_whole_or_not_at_all(stage: Stage, tmp_path: Path) -> None:
    settings = CloudSettings(name="rehearsal", endpoint_url=stage.running.url)
    aws = Aws(settings, REGION)
    uri = f"s3://{BUCKET}/clarify/job/output"
    with pytest.raises(CloudError, match="nothing lies there"):
        fetch_results(aws, uri, tmp_path / "none")
    for name in ("report.html", "explanations_shap/image/a.jpg", "../../outside", "empty/"):
        stage.s3.put_object(Bucket=BUCKET, Key=f"clarify/job/output/{name}", Body=name.encode())
    assert fetch_results(aws, uri, tmp_path / "out") == 2
    found = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert found == {"out/report.html", "out/explanations_shap/image/a.jpg"}
    with pytest.raises(CloudError, match="nothing in it is overwritten"):
        fetch_results(aws, uri, tmp_path / "out")
    # A second slash makes the rest of a key a path of this machine's own.
    stage.s3.put_object(Bucket=BUCKET, Key=f"clarify/job/output/{tmp_path}/owned", Body=b"")
    with pytest.raises(ArchiveError, match=r"owned' leads out of its folder, and is not written"):
        fetch_results(aws, uri, tmp_path / "again")
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
