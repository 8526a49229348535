"""Transform jobs as values: the request, its rules, the photos that it is made of, and what comes back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundles import LABELS, make_bundle, make_photos
from cloud.studies import PLACE
from cloud.test_request import GOLDEN
from sagelight.cloud.contract import violations
from sagelight.cloud.door import main
from sagelight.cloud.settings import CloudSettings
from sagelight.cloud.transform_inputs import (
    MB,
    Inputs,
    Photo,
    _stored,
    local_inputs,
)
from sagelight.cloud.transform_manifest import parse_manifest
from sagelight.cloud.transform_plan import plan_transform
from sagelight.cloud.transform_request import (
    broken_rules,
    ceiling_hours,
    concurrency,
    cores,
    payload_mb,
    transform_body,
)
from sagelight.cloud.transform_results import match, parse_answer
from sagelight.cloud.transform_settings import TransformSettings
from sagelight.errors import CloudError, DataError
from sagelight.serving.folders import known_targets
from stories.commands import refused_by

CLOUD = CloudSettings(region=PLACE.region, role=PLACE.role, bucket=PLACE.bucket)
PREFIX = f"s3://{PLACE.bucket}/sagelight/photos/0123456789abcdef/"
SOURCE = {"S3DataType": "S3Prefix", "S3Uri": PREFIX}
OUTPUT = f"s3://{PLACE.bucket}/sagelight/transform/{{}}"
PHOTOS = Inputs(PREFIX, tuple(Photo(f"test/red/{n}.jpg", 50_000) for n in range(3)))


def body(inputs: Inputs = PHOTOS, cloud: CloudSettings = CLOUD, **entries: Any) -> dict[str, Any]:
    settings = TransformSettings(cloud=cloud, **entries)
    return transform_body(settings, inputs, SOURCE, "resnet50-0123456789", OUTPUT)


def problems(inputs: Inputs = PHOTOS, output: str = "s3://b/out", **entries: Any) -> list[str]:
    return list(broken_rules(TransformSettings(**entries), inputs, output, manifest=False))


@pytest.mark.parametrize(
    ("name", "cloud", "entries"),
    [
        ("transform", CLOUD, {}),
        (
            "transform-walled",
            replace(CLOUD, kms_key="arn:aws:kms:eu-west-1:111122223333:key/abc", tags=["team=a"]),
            {
                "instance_type": "ml.m5.4xlarge",
                "instance_count": 2,
                "max_concurrent": 10,
                "max_payload_mb": 8,
                "timeout_seconds": 30,
                "retries": 1,
                "environment": ["SAGELIGHT_BATCH_SIZE=16"],
            },
        ),
    ],
)
def test_request_is_the_golden_one_and_the_service_would_take_it(
    name: str, cloud: CloudSettings, entries: dict[str, Any]
) -> None:
    request = body(cloud=cloud, **entries)
    text = json.dumps({"CreateTransformJob": request}, indent=2) + "\n"
    path = GOLDEN / f"{name}.json"
    if os.environ.get("SAGELIGHT_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
    assert violations("CreateTransformJob", request) == []


def test_equal_content_has_an_equal_name_and_other_content_another() -> None:
    name = body()["TransformJobName"]
    assert body()["TransformJobName"] == name
    assert body()["TransformOutput"]["S3OutputPath"].endswith(f"/transform/{name}")
    other = replace(PHOTOS, photos=(*PHOTOS.photos[:2], Photo("test/red/2.jpg", 50_000, "changed")))
    names = {
        body(other)["TransformJobName"],
        body(attempt=2)["TransformJobName"],
        body(instance_type="ml.m5.xlarge")["TransformJobName"],
    }
    assert len(names | {name}) == 4


def test_sizes_and_places_follow_from_photos_and_machine() -> None:
    large = Inputs(PREFIX, (Photo("a.jpg", 9 * MB + 1),))
    settings = TransformSettings(instance_type="ml.c6i.16xlarge")
    assert payload_mb(settings, PHOTOS) == 6
    assert payload_mb(settings, large) == 10
    assert concurrency(settings, PHOTOS) == 16
    assert concurrency(settings, large) == 10
    assert concurrency(TransformSettings(), PHOTOS) == 8
    assert concurrency(settings, Inputs(PREFIX, (Photo("a.jpg", 99 * MB),))) == 1
    assert [cores(f"ml.m5.{size}") for size in ("large", "xlarge", "24xlarge")] == [2, 4, 96]


def test_the_ceiling_is_every_photo_at_its_slowest() -> None:
    # 3,600 photos of 60 s, four times, eight at a time.
    assert ceiling_hours(body(), 3600) == pytest.approx(3600 * 240 / 8 / 3600)


def test_disks_that_are_built_in_get_no_key() -> None:
    cloud = replace(CLOUD, kms_key="abc")
    assert "VolumeKmsKeyId" in body(cloud=cloud)["TransformResources"]
    for kind in ("ml.g5.xlarge", "ml.g4dn.xlarge"):
        request = body(cloud=cloud, instance_type=kind)
        assert "VolumeKmsKeyId" not in request["TransformResources"]
        assert request["TransformOutput"]["KmsKeyId"] == "abc"


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            {"max_concurrent": 20},
            "max_concurrent=20 x max_payload_mb=6 is 120 MB, and a machine takes 100 at a time. "
            "Type max_concurrent=16 or max_concurrent=auto",
        ),
        (
            {"max_payload_mb": 6, "inputs": Inputs(PREFIX, (Photo("a.jpg", 8 * MB),))},
            "max_payload_mb=6: the largest photo has 8 MB. Type max_payload_mb=8 or max_payload_mb=auto",
        ),
        ({"environment": ["TZ"]}, "environment: TZ is no KEY=VALUE"),
        ({"cloud": CloudSettings(subnets=["subnet-1"])}, "a VPC needs both cloud.subnets="),
        ({"output": f"{PREFIX}out"}, f"output={PREFIX}out lies below input={PREFIX}"),
    ],
)
def test_what_aws_documents_in_prose_is_refused(entries: dict[str, Any], message: str) -> None:
    [found] = problems(**entries)
    assert found.startswith(message)


def test_nothing_is_wrong_with_the_defaults() -> None:
    assert problems() == []


def test_a_folder_gives_its_photos_and_names_the_rest(tmp_path: Path) -> None:
    root = make_photos(tmp_path / "photos", each=2)
    (root / "README.txt").write_text("no photo")
    (root / ".DS_Store").write_bytes(b"x")
    (root / "red" / "empty.jpg").touch()
    found = local_inputs(root)
    assert [photo.name for photo in found.photos] == [
        f"{label}/0{number}.png" for label in LABELS for number in range(2)
    ]
    assert found.left_out == (".DS_Store", "README.txt")
    assert found.refused == (("red/empty.jpg", "empty file (0 bytes)"),)
    assert found.cargo is not None
    assert found.cargo.key.startswith("photos/")
    assert found.size == sum(path.stat().st_size for path in root.rglob("*.png"))
    assert local_inputs(root).fingerprint == found.fingerprint
    # As macOS names its screenshots.
    (root / "red" / "00.png").rename(root / "red" / "at 9.41\u202fAM.png")
    assert "red/at 9.41\u202fAM.png" in [photo.name for photo in local_inputs(root).photos]
    single = local_inputs(root / "red" / "01.png")
    assert [photo.name for photo in single.photos] == ["01.png"]
    (root / "red" / "a\nb.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"'red/a\\nb\.png' cannot be a name in S3\. Rename it"):
        local_inputs(root)


def test_an_input_without_photos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone does not exist\. Name a photo, a folder of photos"):
        local_inputs(tmp_path / "gone")
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(DataError, match=r"no photos that could be sent .*: empty.jpg: empty file"):
        local_inputs(tmp_path)


def test_objects_that_are_no_photos_ask_for_a_manifest() -> None:
    photos = [Photo("a/1.jpg", 9), Photo("b/2.PNG", 9)]
    assert _stored(PREFIX, photos, "x", whole=True).whole
    rest = [Photo("", 0), Photo("a/", 0), Photo("README.txt", 5), Photo("a/3.jpg", 0)]
    found = _stored(PREFIX, [*photos, *rest], "x", whole=True)
    assert found.photos == tuple(photos)
    assert not found.whole
    assert found.left_out == ("README.txt",)
    assert found.refused == (("a/3.jpg", "empty file (0 bytes)"),)
    with pytest.raises(CloudError, match="of 4 objects there, none is a photo that could be sent"):
        _stored(PREFIX, rest, "x", whole=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.jpg", "is no JSON"),
        ('["a.jpg"]', "does not begin with a prefix in S3"),
        ('[{"prefix": "photos/"}, "a.jpg"]', "does not begin with a prefix in S3"),
        ('[{"prefix": "s3://b/p/"}]', "lists no photos"),
        ('[{"prefix": "s3://b/p/"}, {"source-ref": "x"}]', 'has {"source-ref": "x"} where a name'),
        ("{}", "does not begin"),
    ],
)
def test_manifests_that_are_none_are_refused(text: str, message: str) -> None:
    with pytest.raises(CloudError) as refused:
        parse_manifest(text, "input=x.manifest")
    assert message in str(refused.value)
    assert '[{"prefix": "s3://BUCKET/FOLDER/"}, "a.jpg", "b/c.jpg"]' in str(refused.value)


def test_answers_are_found_below_the_prefix_and_below_the_bucket() -> None:
    names = ["a.jpg", "b/a.jpg", "c.jpg"]
    near = [f"out/{name}.out" for name in names]
    assert match("out/", near, names) == dict(zip(names, near, strict=True))
    far = [f"out/photos/x/{name}.out" for name in names]
    assert match("out/", far, names) == dict(zip(names, far, strict=True))
    assert match("out/", near[:1], names) == {"a.jpg": near[0]}
    assert match("out/", ["out/else.jpg.out"], names) == {}


def test_an_answer_is_probabilities_or_a_reason() -> None:
    row = [0.25, 0.5, 0.25]
    good = parse_answer("a.jpg", json.dumps({"label": "x", "probabilities": row}).encode(), LABELS)
    assert good.probabilities == pytest.approx(np.float32(row))
    bad = parse_answer("a.jpg", b'{"error": "not an image"}', LABELS)
    assert (bad.probabilities, bad.reason) == (None, "not an image")
    for content in (b"no json", b"[1]", b'{"probabilities": [1]}', b'{"probabilities": ["a"]}'):
        with pytest.raises(CloudError, match=r"^the answer to a\.jpg is not what a bundle of"):
            parse_answer("a.jpg", content, LABELS)


@pytest.mark.parametrize(
    ("files", "known"),
    [
        (["red/1.jpg", "blue/x/2.jpg", "misc/3.jpg", "4.jpg"], {"red/1.jpg": 2, "blue/x/2.jpg": 0}),
        (["test/red/1.jpg", "train/red/2.jpg", "red/3.jpg"], {"test/red/1.jpg": 2}),
        (["Testing/green/1.jpg", "test/misc/2.jpg"], {"Testing/green/1.jpg": 1}),
        (["1.jpg", "red.jpg", "test/red.jpg"], {}),
    ],
)
def test_classes_are_known_from_folders(files: list[str], known: dict[str, int]) -> None:
    assert known_targets(files, LABELS) == known


def test_a_dry_run_needs_no_credentials(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle, root = make_bundle(tmp_path / "bundle"), make_photos(tmp_path / "photos", each=2)
    (root / "notes.txt").write_text("x")
    words = [f"bundle={bundle}", f"input={root}", "output=out", "dry_run=true"]
    assert main(["transform", *words]) == 0
    said = capsys.readouterr().out
    assert f"6 of {root}" in said
    assert "not       notes.txt: no photos by their names" in said
    assert "6 PUT to bring them up, once; then 6 GET and 6 PUT by the job, 6 GET" in said
    assert "at most   0.05 instance-hours" in said
    assert "note: no region is set" in said
    assert '"CreateTransformJob"' in said
    assert not Path("out").exists()


def test_what_only_s3_knows_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    words = [f"bundle={bundle}", "input=s3://b/photos", "instance_type=ml.g5.xlarge"]
    assert main(["transform", *words, "dry_run=true"]) == 0
    said = capsys.readouterr().out
    assert "note: which photos input=s3://b/photos holds is asked before anything starts" in said
    assert "ml.g5.xlarge has GPUs, and a bundle runs on the cores" in said
    words[1] = "input=s3://b/list.manifest"
    assert main(["transform", *words, "dry_run=true"]) == 0
    said = capsys.readouterr().out
    assert '"S3DataType": "ManifestFile",\n          "S3Uri": "s3://b/list.manifest"' in said


def test_all_problems_come_in_one_list(capsys: pytest.CaptureFixture[str]) -> None:
    message = refused_by(
        main,
        capsys,
        "transform",
        "job=a",
        "bundle=b",
        "max_concurrent=50",
        "instance_type=ml.c6i.huge",
        "cloud.spot=true",
        "dry_run=true",
    )
    assert message.startswith("this job has 5 problems:")
    assert "which photos? Type transform job=NAME input=DIR" in message
    assert "which model? Type job=NAME of a training, or bundle=DIR" in message
    assert "there is no ml.c6i.huge" in message
    assert "cloud.spot is of trainings, and does nothing here" in message
    assert "max_concurrent=50 x max_payload_mb=6" in message


def test_a_job_is_not_started_on_a_guess(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, root = make_bundle(tmp_path / "bundle"), make_photos(tmp_path / "photos", each=1)
    message = refused_by(main, capsys, "transform", f"bundle={bundle}", f"input={root}")
    assert message.startswith("no region is set")


def test_the_same_photos_make_the_same_plan(tmp_path: Path) -> None:
    bundle, root = make_bundle(tmp_path / "bundle"), make_photos(tmp_path / "photos", each=1)
    settings = TransformSettings(bundle=str(bundle), input=str(root), cloud=CLOUD)
    first = plan_transform(settings)
    assert first.problems == ()
    assert first.table == f"runs/{first.name}/labels.csv"
    assert plan_transform(settings).body == first.body
    elsewhere = replace(settings, output="s3://photos-of-ours/x/found.jsonl")
    assert plan_transform(elsewhere).answers == "s3://photos-of-ours/x"
    assert plan_transform(elsewhere).table == "s3://photos-of-ours/x/found.jsonl"


def test_labelling_in_the_cloud_needs_no_torch() -> None:
    code = "import sys, sagelight.cloud.transform; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
