"""Photos through batch transform, rehearsed: the table of `predict`, the figures of `evaluate`, and coming back."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from PIL import Image

from bundles import LABELS, make_bundle, make_photos, photo
from sagelight.cloud.client import Aws
from sagelight.cloud.door import main as cloud
from sagelight.cloud.settings import CloudSettings
from sagelight.rehearsal.server import REGION, Rehearsal
from stories.commands import read_csv, refused_by, run

UNREADABLE = "not an image of a known format"


@pytest.fixture
def words(running: Rehearsal) -> list[str]:
    return ["cloud=rehearsal", f"cloud.endpoint_url={running.url}"]


@pytest.fixture
def aws(running: Rehearsal) -> Aws:
    return Aws(CloudSettings(name="rehearsal", endpoint_url=running.url), REGION)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundle")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """train/ and test/ folders; among the test photos one that is wrong, one broken, and a note."""
    root = make_photos(tmp_path / "photos" / "train", each=2).parent
    make_photos(root / "test", each=3)
    photo("blue", seed=99).save(root / "test" / "red" / "00.png")
    (root / "test" / "red" / "broken.jpg").write_text("no photo")
    (root / "test" / "README.txt").write_text("about these photos")
    return root


def told(capsys: pytest.CaptureFixture[str], *typed: str) -> str:
    capsys.readouterr()
    assert cloud(list(typed)) == 0
    return capsys.readouterr().out


def name_in(said: str) -> str:
    """The transform job's name, from the first line of its plan."""
    return said.splitlines()[0].removeprefix("CreateTransformJob ")


def figures(path: Path) -> dict[str, Any]:
    """A file of figures, less the names of what was measured."""
    content: dict[str, Any] = json.loads(path.read_text())
    return {
        k: content[k] for k in content if k not in ("bundle", "data_root", "fingerprint", "job")
    }


def test_a_labelled_test_set_is_labelled_and_scored_as_it_is_here(
    bundle: Path, root: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"bundle={bundle}", f"input={root / 'test'}", *words]
    said = told(capsys, "transform", *words, "output=there", "max_concurrent=4")
    assert "not       README.txt: no photos by their names" in said
    assert f"{name_in(said)}: Completed" in said
    assert "table   there/labels.csv: 9 of 10 photos" in said
    assert (
        run("predict", f"bundle={bundle}", f"input={root / 'test'}", "output=here/labels.csv") == 0
    )
    here, there = read_csv(Path("here/labels.csv")), read_csv(Path("there/labels.csv"))
    assert [list(row) for row in there] == [list(row) for row in here]
    for one, other in zip(here, there, strict=True):
        assert (one["file"], one["label"]) == (other["file"], other["label"])
        for key in one.keys() & {"confidence", "confidence_2", "confidence_3"}:
            assert float(other[key]) == pytest.approx(float(one[key]), abs=1e-5)
    assert read_csv(Path("there/labels.errors.csv")) == read_csv(Path("here/labels.errors.csv"))

    assert run("evaluate", f"bundle={bundle}", f"data.root={root}", "output=figures.json") == 0
    measured = capsys.readouterr().out.split("\n\n")[1:]
    assert measured == said[said.index("\naccuracy") + 1 : said.index("\ntable   ") + 1].split(
        "\n\n"
    )
    wanted, found = figures(Path("figures.json")), figures(Path("there/labels.json"))
    assert found["evaluation"]["confusion"] == [[3, 0, 0], [0, 3, 0], [1, 0, 2]]
    assert found["evaluation"]["confusion"] == wanted["evaluation"]["confusion"]
    assert found["test/accuracy"] == wanted["test/accuracy"] == pytest.approx(8 / 9)
    for name in ("test/loss", "test/macro_f1", "test/ece"):
        assert found[name] == pytest.approx(wanted[name], abs=1e-5)
    assert [each["path"] for each in found["unreadable"]] == ["red/broken.jpg"]
    assert found["unreadable"][0]["reason"].startswith(UNREADABLE)


def test_the_same_command_comes_back_to_the_same_job(
    bundle: Path,
    root: Path,
    words: list[str],
    aws: Aws,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    typed = ["transform", f"bundle={bundle}", f"input={root}", "timeout_seconds=50", *words]
    said = told(capsys, *typed, "output=x/found.jsonl", "cloud.follow=false")
    name = name_in(said)
    assert f"started {name}. Repeat the same command to follow it and to get its table" in said
    assert not Path("x").exists()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sagelight.cloud.transform.follow", interrupted)
        assert cloud([*typed, "output=x/found.jsonl"]) == 130
    message = capsys.readouterr().err
    assert f"{name} goes on. Repeat the same command to follow it" in message
    # The whole data set: of train/ and test/, the test photos are scored.
    said = told(capsys, *typed, "output=x/found.jsonl")
    assert f"{name} is there already" in said
    assert "6 other photos lie in no folder of a class, or are not for testing" in said
    lines = [json.loads(line) for line in Path("x/found.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines][:1] == ["test/blue/00.png"]
    assert len(lines) == 15
    assert figures(Path("x/found.json"))["evaluation"]["count"] == 9
    assert len(aws.sagemaker.list_transform_jobs(NameContains=name)["TransformJobSummaries"]) == 1

    assert told(capsys, "status", f"job={name}", *words) == f"{name}: Completed\n"
    assert '"path": "/invocations"' in told(capsys, "logs", f"job={name}", *words)
    assert "has ended already" in told(capsys, "stop", f"job={name}", *words)
    message = refused_by(cloud, capsys, "status", "job=nobody", *words)
    assert "there is no training, tuning, transform or processing job" in message


def test_a_prefix_with_other_things_in_it_goes_as_a_manifest(
    bundle: Path,
    words: list[str],
    aws: Aws,
    running: Rehearsal,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Not by a client of sagelight's, which makes no bucket but the account's default one.
    keys = {"aws_access_key_id": "k", "aws_secret_access_key": "s"}
    theirs = boto3.client("s3", REGION, endpoint_url=running.url, **keys)
    theirs.create_bucket(Bucket="theirs")
    contents = {"2026/.DS_Store": b"x", "2026/README.txt": b"x", "2026/": b"", "2026/c.jpg": b""}
    for label in LABELS:
        packed = io.BytesIO()
        photo(label).save(packed, "PNG")
        contents[f"2026/{label} photo.png"] = packed.getvalue()
    for key, content in contents.items():
        aws.s3.put_object(Bucket="theirs", Key=key, Body=content)
    typed = [f"bundle={bundle}", "input=s3://theirs/2026", "output=s3://theirs/found", *words]
    assert cloud(["transform", *typed]) == 0
    said, remarks = capsys.readouterr()
    assert "All of them are in s3://theirs/found/labels.errors.csv" in remarks
    assert "not       .DS_Store, README.txt: no photos by their names" in said
    described = aws.sagemaker.describe_transform_job(TransformJobName=name_in(said))
    source = described["TransformInput"]["DataSource"]["S3DataSource"]
    assert source["S3DataType"] == "ManifestFile"
    listed = aws.s3.list_objects_v2(Bucket="theirs", Prefix="found/")["Contents"]
    assert {entry["Key"].removeprefix("found/") for entry in listed} == {
        *(f"{label} photo.png.out" for label in LABELS),
        "labels.csv",
        "labels.errors.csv",
    }
    table = aws.s3.get_object(Bucket="theirs", Key="found/labels.csv")["Body"].read().decode()
    assert [line.split(",")[:2] for line in table.splitlines()[1:]] == [
        [f"{label} photo.png", label] for label in LABELS
    ]
    errors = aws.s3.get_object(Bucket="theirs", Key="found/labels.errors.csv")["Body"].read()
    assert errors.decode().splitlines()[1:] == ["c.jpg,empty file (0 bytes)"]
    answer = json.loads(
        aws.s3.get_object(Bucket="theirs", Key="found/red photo.png.out")["Body"].read()
    )
    assert (answer["label"], sum(answer["probabilities"])) == ("red", pytest.approx(1, abs=1e-5))

    # The same model from S3, whose labels are read there, and a manifest that a person keeps here.
    model = described["ModelName"]
    container = aws.sagemaker.describe_model(ModelName=model)["PrimaryContainer"]
    kept = [{"prefix": "s3://theirs/2026/"}, "red photo.png", "blue photo.png"]
    Path("kept.manifest").write_text(json.dumps(kept))
    typed = [f"bundle={container['ModelDataUrl']}", "input=kept.manifest", "output=two", *words]
    assert "table   two/labels.csv: 2 of 2 photos" in told(capsys, "transform", *typed)
    Path("kept.manifest").write_text(json.dumps([*kept, "gone.png"]))
    message = refused_by(cloud, capsys, "transform", *typed)
    assert "lists 1 objects that are not below s3://theirs/2026/: gone.png" in message


def test_a_failed_job_says_so_and_keeps_what_it_has(
    tmp_path: Path, root: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    large = np.random.default_rng(0).integers(0, 255, (1500, 1500, 3), np.uint8)
    Image.fromarray(large).save(root / "test" / "red" / "large.png")
    bundle = make_bundle(tmp_path / "bundle")
    typed = [f"bundle={bundle}", f"input={root / 'test'}", "output=out", "retries=0", *words]
    # The container is told to take less than the photo has.
    less = "environment=['SAGELIGHT_MAX_BODY_BYTES=1000000']"
    assert cloud(["transform", *typed, less]) == 2
    message = capsys.readouterr().err
    assert (
        "failed: ClientError: See job logs for more information. 2 photos have no answer."
        in message
    )
    assert "Type attempt=2 to start it again" in message
    assert len(read_csv(Path("out/labels.csv"))) == 9
    errors = {row["file"]: row["reason"] for row in read_csv(Path("out/labels.errors.csv"))}
    assert sorted(errors) == ["red/broken.jpg", "red/large.png"]
    assert errors["red/large.png"].startswith("the job left no answer: ClientError: 413 Message: ")
