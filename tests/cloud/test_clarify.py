"""Clarify's jobs as values: the request, the analysis, their rules, and what our answers must hold for them."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jmespath
import numpy as np
import pytest

from bundles import LABELS, make_bundle, make_photos
from cloud.studies import PLACE
from cloud.test_request import GOLDEN
from sagelight.cloud.clarify_plan import plan_clarify
from sagelight.cloud.clarify_request import (
    PROCESSING_JOB,
    analysis,
    broken_rules,
    ceiling_hours,
    config_uri,
    processing_body,
    results_uri,
)
from sagelight.cloud.clarify_settings import ClarifySettings
from sagelight.cloud.contract import violations
from sagelight.cloud.door import main
from sagelight.cloud.place import clarify_image_uri
from sagelight.cloud.settings import CloudSettings
from sagelight.errors import CloudError
from sagelight.serving.inference import JSON, answer, output_fn
from stories.commands import refused_by

CLOUD = CloudSettings(region=PLACE.region, role=PLACE.role, bucket=PLACE.bucket)
CLARIFY = replace(PLACE, image=clarify_image_uri(PLACE.region))
PHOTOS = f"s3://{PLACE.bucket}/sagelight/photos/0123456789abcdef/"
MODEL = "resnet50-0123456789"
WALLED = replace(
    CLOUD,
    subnets=["subnet-0a1b"],
    security_groups=["sg-0a1b"],
    kms_key="arn:aws:kms:eu-west-1:111122223333:key/abc",
    tags=["team=vision"],
)
REQUESTS = {
    "clarify": ClarifySettings(cloud=CLOUD),
    "clarify-walled": ClarifySettings(
        endpoint="flowers",
        segments=60,
        compactness=10,
        samples=200,
        content_type="image/png",
        instance_type="ml.m5.2xlarge",
        cloud=WALLED,
    ),
}


def asked(settings: ClarifySettings, labels: tuple[str, ...] = tuple(LABELS)) -> dict[str, Any]:
    return analysis(settings, MODEL, labels)


def body(settings: ClarifySettings, photos: str = "f") -> dict[str, Any]:
    return processing_body(settings, asked(settings), CLARIFY, PHOTOS, photos)


@pytest.mark.parametrize("name", REQUESTS)
def test_request_is_the_golden_one_and_the_service_would_take_it(name: str) -> None:
    settings = REQUESTS[name]
    request = body(settings)
    content = {"analysis_config.json": asked(settings), PROCESSING_JOB: request}
    text = json.dumps(content, indent=2) + "\n"
    path = GOLDEN / f"{name}.json"
    if os.environ.get("SAGELIGHT_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
    assert violations(PROCESSING_JOB, request) == []


@pytest.mark.parametrize("name", REQUESTS)
def test_the_analysis_is_what_the_sdk_would_write_and_passes_its_schema(name: str) -> None:
    from sagemaker.core import clarify

    settings = REQUESTS[name]
    ours = asked(settings)
    clarify.ANALYSIS_CONFIG_SCHEMA_V1_0.validate(copy.deepcopy(ours))
    who = (
        {"endpoint_name": settings.endpoint}
        if settings.endpoint
        else {"model_name": MODEL, "instance_count": 1, "instance_type": "ml.m5.xlarge"}
    )
    image = clarify.ImageConfig(
        "IMAGE_CLASSIFICATION",
        num_segments=settings.segments,
        feature_extraction_method="segmentation",
        segment_compactness=settings.compactness,
    )
    theirs = clarify._AnalysisConfigGenerator.explainability(
        clarify.DataConfig("s3://b/in", "s3://b/out", dataset_type="application/x-image"),
        clarify.ModelConfig(
            **who, content_type=settings.content_type, accept_type="application/json"
        ),
        clarify.ModelPredictedLabelConfig(probability="probabilities", label_headers=LABELS),
        clarify.SHAPConfig(num_samples=settings.samples, seed=0, image_config=image),
    )
    assert ours == theirs
    upload = clarify.ProcessingOutputHandler.get_s3_upload_mode(ours)
    [output] = body(settings)["ProcessingOutputConfig"]["Outputs"]
    assert output["S3Output"]["S3UploadMode"] == upload
    folders = [each["S3Input"]["LocalPath"] for each in body(settings)["ProcessingInputs"]]
    processor = clarify.SageMakerClarifyProcessor
    assert folders == [processor._CLARIFY_DATA_INPUT, processor._CLARIFY_CONFIG_INPUT]
    assert output["S3Output"]["LocalPath"] == processor._CLARIFY_OUTPUT


def test_clarify_finds_one_probability_a_class_in_our_answers() -> None:
    row = np.array([0.25, 0.5, 0.25], np.float32)
    predictor = asked(ClarifySettings())["predictor"]
    assert predictor["accept_type"] == JSON
    text, kind = output_fn(answer(LABELS, row, 5), predictor["accept_type"])
    assert kind == JSON
    found = jmespath.search(predictor["probability"], json.loads(text))
    assert found == pytest.approx(row.tolist())
    assert len(found) == len(predictor["label_headers"])


def test_equal_content_has_an_equal_name_and_other_content_another() -> None:
    name = body(ClarifySettings(cloud=CLOUD))["ProcessingJobName"]
    assert body(ClarifySettings(cloud=CLOUD))["ProcessingJobName"] == name
    names = {
        body(ClarifySettings(cloud=CLOUD), "g")["ProcessingJobName"],
        body(ClarifySettings(cloud=CLOUD, samples=10))["ProcessingJobName"],
        body(ClarifySettings(cloud=CLOUD, attempt=2))["ProcessingJobName"],
        body(ClarifySettings(cloud=CLOUD, instance_type="ml.m5.large"))["ProcessingJobName"],
    }
    assert len({name, *names}) == 5
    request = body(ClarifySettings(cloud=CLOUD))
    assert config_uri(request).endswith(f"/clarify/{name}/analysis_config.json")
    assert results_uri(request).endswith(f"/clarify/{name}/output")


def test_the_ceiling_counts_both_machines() -> None:
    assert ceiling_hours(ClarifySettings(endpoint_instance_count=2)) == (4.0, 8.0)
    assert ceiling_hours(ClarifySettings(endpoint="there", max_runtime_seconds=1800)) == (0.5, 0.0)


@pytest.mark.parametrize(
    ("entries", "source", "problem"),
    [
        ({"cloud": replace(CLOUD, network_isolation=True)}, PHOTOS, "asks the model over the"),
        ({}, f"s3://{PLACE.bucket}/", "so results would be read as photos"),
        ({}, f"s3://{PLACE.bucket}/sagelight", "so results would be read as photos"),
        ({"environment": ["A"]}, PHOTOS, "environment: A is no KEY=VALUE"),
        ({"cloud": replace(CLOUD, subnets=["subnet-1"])}, PHOTOS, "a VPC needs both"),
    ],
)
def test_what_clarify_would_refuse_is_told(
    entries: dict[str, Any], source: str, problem: str
) -> None:
    settings = ClarifySettings(**entries)
    [found] = broken_rules(settings, source, f"s3://{PLACE.bucket}/sagelight/clarify/x/output")
    assert problem in found
    assert list(broken_rules(ClarifySettings(), PHOTOS, "s3://b/sagelight/clarify/x")) == []


def test_every_region_of_the_sdks_table_has_an_image() -> None:
    from sagemaker.core import image_uris

    for region in ("us-east-1", "eu-west-1", "cn-north-1", "us-gov-west-1"):
        assert clarify_image_uri(region) == image_uris.retrieve("clarify", region)
    with pytest.raises(CloudError, match=r"no Clarify there\. Did you mean eu-west-3"):
        clarify_image_uri("eu-west-9")


def test_everything_wrong_is_told_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused_by(main, capsys, "explain", "cloud.region=eu-west-1").splitlines()[1:] == [
        "  - which model? Type explain bundle=DIR input=DIR, or job=NAME or endpoint=NAME instead of bundle",
        "  - which photos? Type explain bundle=DIR input=DIR, or job=NAME or endpoint=NAME instead of bundle",
    ]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.webp").touch()
    words = [
        "endpoint=e",
        "bundle=b",
        f"input={tmp_path}/photos",
        "endpoint_instance_type=ml.m5.huge",
    ]
    message = refused_by(main, capsys, "explain", *words, "instance_type=ml.none", "cloud=aws")
    assert "endpoint=e answers with its own model" in message
    assert "has no photos that Clarify reads: it takes .jpg, .jpeg, .png" in message
    assert "ProcessingResources.ClusterConfig.InstanceType: there is no ml.none" in message
    assert "endpoint_instance_type: there is no ml.m5.huge. Did you mean ml.m5.large" in message


def test_a_dry_run_needs_no_credentials_and_shows_everything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = make_bundle(tmp_path / "bundle", backbone="resnet18")
    photos = make_photos(tmp_path / "photos", each=2)
    words = [f"bundle={bundle}", f"input={photos}", "cloud.region=eu-west-1", "dry_run=true"]
    assert main(["explain", *words]) == 0
    shown = capsys.readouterr().out
    assert "notice    Clarify takes no new AWS customers" in shown
    assert "6 of them go up" in shown
    assert "4 instance-hours of ml.c5.xlarge and 4 of ml.m5.xlarge" in shown
    assert "note: no execution role is set" in shown
    sent = json.loads(shown[shown.index("{\n") : shown.rindex("}\n") + 2])
    assert set(sent) == {"CreateModel", "analysis_config.json", PROCESSING_JOB}
    assert sent["analysis_config.json"]["predictor"]["label_headers"] == LABELS
    name = sent["CreateModel"]["ModelName"]
    assert sent["analysis_config.json"]["predictor"]["model_name"] == name
    message = refused_by(main, capsys, "explain", *words[:-1])
    assert message.startswith("no execution role is set")


def test_classes_of_a_model_elsewhere_must_be_named() -> None:
    plan = plan_clarify(ClarifySettings(job="j", input="s3://b/photos", cloud=CLOUD))
    assert plan.problems == ()
    assert "label_headers" not in plan.analysis["predictor"]
    assert any("type labels=[...]" in text for text in plan.notices)
    assert plan.body["ProcessingInputs"][0]["S3Input"]["S3Uri"] == "s3://b/photos/"
    assert any("AWS is asked before anything starts" in text for text in plan.asked)
    named = ClarifySettings(endpoint="e", input="s3://b/a.jpg", labels=["x", "y"], cloud=CLOUD)
    plan = plan_clarify(named)
    assert plan.model is None
    assert plan.analysis["predictor"]["endpoint_name"] == "e"
    assert plan.analysis["predictor"]["label_headers"] == ["x", "y"]
    assert plan.body["ProcessingInputs"][0]["S3Input"]["S3Uri"] == "s3://b/a.jpg"


def test_a_region_without_clarify_is_a_problem_of_the_plan(tmp_path: Path) -> None:
    elsewhere = replace(CLOUD, region="eu-west-9")
    plan = plan_clarify(ClarifySettings(endpoint="e", input="s3://b/p/", cloud=elsewhere))
    assert any("AWS has no Clarify there" in text for text in plan.problems)


def test_an_account_that_aws_turns_away_hears_why(
    refusing: Callable[..., str], capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    from cloud.conftest import api_error

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")

    def answered(method: str, target: str) -> Any:
        if target.endswith("DescribeProcessingJob"):
            return api_error("ValidationException", "Could not find requested job with name: x")
        if target.endswith("CreateProcessingJob"):
            return api_error("AccessDeniedException", "Clarify is not open to new customers")
        return 200, {}, "<ListBucketResult></ListBucketResult>"

    words = ["endpoint=e", "input=s3://photos/p/", "cloud.region=us-east-1"]
    more = [f"cloud.role={PLACE.role}", f"cloud.endpoint_url={refusing(answered)}"]
    message = refused_by(main, capsys, "explain", *words, *more, "cloud.bucket=results")
    assert "was refused: Clarify is not open to new customers (AccessDeniedException)" in message
