"""Golden requests: what would be sent, byte for byte; each passes AWS's own description of the service.

After a wanted change: SAGELIGHT_GOLDEN=write pytest tests/cloud/test_request.py, and read the difference.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from cloud.studies import PAYLOAD, PLACE, RULES_IMAGE, study
from sagelight.cloud.contract import violations
from sagelight.cloud.plan import make_plan, travelling
from sagelight.cloud.request import build_request

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
SPOT = ["cloud.spot=true", "cloud.max_runtime_seconds=3600"]
MULTI_NODE = ["cloud.instance_count=2", "cloud.instance_type=ml.g5.12xlarge"]
WALLED = [
    "cloud.subnets=[subnet-0a1b,subnet-2c3d]",
    "cloud.security_groups=[sg-0a1b]",
    "cloud.kms_key=arn:aws:kms:eu-west-1:111122223333:key/abc",
    "cloud.encrypt_traffic=true",
    "cloud.tags=['team=vision','cost=42']",
    "cloud.environment=['TZ=UTC']",
    "cloud.keep_alive_seconds=600",
    "cloud.retries=2",
]
ISOLATED = [
    "cloud.isolated=true",
    "cloud.subnets=[subnet-0a1b]",
    "cloud.security_groups=[sg-0a1b]",
    "cloud.image=111122223333.dkr.ecr.eu-west-1.amazonaws.com/sagelight-training:1",
]
DEBUGGER = [
    "debugger.cloud=true",
    "debugger.rules=[]",
    "debugger.save_interval=100",
    "debugger.parameters={Overfit: {patience: 3}}",
    "profiler.interval_ms=1000",
]
HPO = ["hpo=true"]
REQUESTS = {
    "train": [],
    "train-spot": SPOT,
    "train-multi-node": MULTI_NODE,
    "train-walled": WALLED,
    "train-isolated": ISOLATED,
    "train-debugger": DEBUGGER,
    "hpo-bayesian": [*HPO, "hpo.early_stopping=true", "hpo.patience=5", "hpo.until_converged=true"],
    "hpo-random": [*HPO, "hpo.strategy=random", "seed=7", "hpo.target=0.95", *SPOT],
    "hpo-hyperband": [*HPO, "hpo.strategy=hyperband", "trainer.max_epochs=9", "hpo.min_epochs=2"],
    "hpo-isolated": [
        *HPO,
        *ISOLATED,
        "cloud.kms_key=alias/photos",
        "cloud.instance_type=ml.m5.xlarge",
    ],
    "hpo-grid": [*HPO, "hpo.strategy=grid", "optimizer.lr=0.001,0.01"],
    "hpo-warm-start": [*HPO, "hpo.warm_start=[earlier-job]", "hpo.metric=val/loss"],
}


@pytest.mark.parametrize("name", REQUESTS)
def test_request_is_the_golden_one_and_the_service_would_take_it(name: str) -> None:
    payload = replace(PAYLOAD, gpus=4 if "multi" in name else 1, commit="0123abc")
    place = replace(PLACE, rules_image=RULES_IMAGE)
    request = build_request(study(*REQUESTS[name]), place, payload)
    text = json.dumps({request.operation: request.body}, indent=2) + "\n"
    path = GOLDEN / f"{name}.json"
    if os.environ.get("SAGELIGHT_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
    assert violations(request.operation, request.body) == []


def test_the_seed_zero_is_sent() -> None:
    body = build_request(study("hpo=true", "seed=0"), PLACE, PAYLOAD).body
    assert body["HyperParameterTuningJobConfig"]["RandomSeed"] == 0


def test_equal_content_has_an_equal_name_and_other_content_another() -> None:
    name = build_request(study(), PLACE, PAYLOAD).name
    assert build_request(study(), PLACE, PAYLOAD).name == name
    assert name.startswith("resnet50-")
    others = [
        build_request(study("cloud.attempt=2"), PLACE, PAYLOAD).name,
        build_request(study("cloud.instance_type=ml.g5.2xlarge"), PLACE, PAYLOAD).name,
        build_request(study(), PLACE, replace(PAYLOAD, source="s3://photos-of-ours/other")).name,
        build_request(study(), PLACE, replace(PAYLOAD, overrides=("seed=1",))).name,
    ]
    assert len({name, *others}) == 5
    assert build_request(study(), PLACE, replace(PAYLOAD, commit="another")).name == name


def test_attempts_share_their_checkpoints() -> None:
    first, second = (
        build_request(study(f"cloud.attempt={attempt}"), PLACE, PAYLOAD).body for attempt in (1, 2)
    )
    assert first["CheckpointConfig"] == second["CheckpointConfig"]
    assert first["TrainingJobName"] != second["TrainingJobName"]


@pytest.mark.parametrize("words", [["hpo=true"], []])
def test_long_names_keep_within_the_limit(words: list[str]) -> None:
    request = build_request(study(f"name={'very_long.name' * 9}", *words), PLACE, PAYLOAD)
    assert violations(request.operation, request.body) == []


def test_shards_are_mounted_and_not_copied() -> None:
    root = "data.root=s3://photos-of-ours/shards"
    plan = make_plan(study("data=shards", root, "cloud.region=eu-west-1"))
    channel, weights = plan.request.body["InputDataConfig"]
    assert channel["DataSource"]["S3DataSource"]["S3Uri"] == "s3://photos-of-ours/shards"
    assert (channel["InputMode"], weights["InputMode"]) == ("FastFile", "File")
    travels = travelling(plan.study)[0]
    assert "data.shuffle_shards=8" in travels
    assert "data=shards" in travels
    here = make_plan(study("data=shards", "data.root=shards"))
    assert any("prepare data.root=PHOTOS output=s3://" in problem for problem in here.problems)
