"""What a transform job has left: one answer a photo, and a reason for each photo that has none."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from sagelight.archives import read_member
from sagelight.bundle.spec import BundleSpec
from sagelight.cloud.answers import error_code
from sagelight.cloud.client import Aws, explained
from sagelight.cloud.follow import LOG_GROUPS, TRANSFORM, JobState
from sagelight.cloud.transform_inputs import Inputs, Photo
from sagelight.cloud.transform_manifest import S3
from sagelight.errors import ArchiveError, BundleError, CloudError
from sagelight.progress import progress
from sagelight.serving.stream import Answer

THREADS = 16
OUT = ".out"
SPEC = "bundle.json"
MOST_SPEC = 1 << 26
# S3 gives whole seconds.
_ROUNDING = timedelta(seconds=2)
NO_ANSWER = "the job left no answer"


def collect(aws: Aws, state: JobState, inputs: Inputs, labels: Sequence[str]) -> list[Answer]:
    """What became of every photo, sorted by name; of what could not be sent too.

    Raises:
        CloudError: an answer that is none of ours, or AWS refuses.
    """
    keys = _answered(aws, state, inputs.photos)
    bucket = str(_output(state)[0])
    with explained(f"reading the log of {state.name}"):
        reasons = _logged(aws, state.name) if len(keys) < len(inputs.photos) else {}

    def read(photo: Photo) -> Answer:
        if photo.name not in keys:
            return Answer(photo.name, None, _reason(reasons, photo.name))
        body: bytes = aws.s3.get_object(Bucket=bucket, Key=keys[photo.name])["Body"].read()
        return parse_answer(photo.name, body, labels)

    with explained(f"reading the answers of {state.name}"), ThreadPoolExecutor(THREADS) as pool:
        found = list(progress(pool.map(read, inputs.photos), len(inputs.photos), "answers"))
    found += [Answer(name, None, reason) for name, reason in inputs.refused]
    return sorted(found, key=lambda answer: answer.file)


def parse_answer(name: str, body: bytes, labels: Sequence[str]) -> Answer:
    """The content of one .out object.

    Raises:
        CloudError: it is none of ours.
    """
    try:
        content = json.loads(body)
        if "error" in content:
            return Answer(name, None, str(content["error"]))
        row = np.array(content["probabilities"], dtype=np.float32)
        if row.shape != (len(labels),):
            raise ValueError(f"{row.size} probabilities for {len(labels)} labels")
        return Answer(name, row)
    except (ValueError, TypeError, KeyError) as error:
        raise CloudError(
            f"the answer to {name} is not what a bundle of sagelight answers: {error!r}. "
            f"It begins with {body[:80]!r}. Type image=auto, or an image of this project's."
        ) from error


def labels_in(aws: Aws, uri: str) -> list[str]:
    """The labels of a bundle in S3, read from the beginning of its archive.

    Raises:
        CloudError: no archive, or no bundle in it.
    """
    bucket, _, key = uri.removeprefix(S3).partition("/")
    try:
        with (
            explained(f"reading {uri}"),
            closing(aws.s3.get_object(Bucket=bucket, Key=key)["Body"]) as body,
        ):
            content = read_member(body, SPEC, MOST_SPEC)
        if content is not None:
            return BundleSpec.from_dict(json.loads(content)).labels
    except (ArchiveError, OSError, ValueError, KeyError, TypeError) as error:
        raise CloudError(f"{uri} is no archive of a bundle: {error}") from error
    raise BundleError(f"{uri} holds no {SPEC}. Type bundle=DIR of a bundle.")


def _answered(aws: Aws, state: JobState, photos: Sequence[Photo]) -> dict[str, str]:
    """The key of each photo's answer.

    AWS's documents show two ways in which an answer's key may follow from that of its photo, below the input's
    prefix or below the bucket; both end with the photo's name.
    """
    bucket, prefix = _output(state)
    since: datetime = state.described["CreationTime"]
    with explained(f"looking into {S3}{bucket}/{prefix}"):
        pages = aws.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        # What an earlier job has left under the same names is older than this one.
        fresh = [
            entry["Key"]
            for page in pages
            for entry in page.get("Contents", ())
            if entry["Key"].endswith(OUT) and entry["LastModified"] >= since - _ROUNDING
        ]
    return match(prefix, fresh, [photo.name for photo in photos])


def match(prefix: str, keys: Iterable[str], names: Sequence[str]) -> dict[str, str]:
    """For each name its key: `prefix` + anything that is a folder or nothing + name + `.out`."""
    tails = {key.removeprefix(prefix).removesuffix(OUT): key for key in keys}
    found = {name: tails[name] for name in names if name in tails}
    left = {name for name in names if name not in found}
    for tail, key in tails.items():
        parts = tail.split("/")
        ending = next((e for n in range(1, len(parts)) if (e := "/".join(parts[n:])) in left), None)
        if ending is not None:
            found[ending] = key
    return found


def _output(state: JobState) -> tuple[str, str]:
    uri = str(state.described["TransformOutput"]["S3OutputPath"])
    bucket, _, prefix = uri.removeprefix(S3).partition("/")
    return bucket, f"{prefix.rstrip('/')}/" if prefix else ""


def _logged(aws: Aws, name: str) -> dict[str, str]:
    """What the service's own log says about objects: `BUCKET/KEY: what went wrong`."""
    found: dict[str, list[str]] = {}
    for line in _data_log(aws, name):
        parts = re.search(r"\[sagemaker logs\]: (\S+?/.+?): (.+)", line)
        if parts:
            found.setdefault(parts.group(1), []).append(parts.group(2).strip())
    return {key: " ".join(said) for key, said in found.items()}


def _data_log(aws: Aws, name: str) -> Iterator[str]:
    from botocore.exceptions import ClientError

    try:
        streams = aws.logs.describe_log_streams(
            logGroupName=LOG_GROUPS[TRANSFORM], logStreamNamePrefix=f"{name}/"
        )
        for stream in streams["logStreams"]:
            if stream["logStreamName"].endswith("data-log"):
                yield from _events(aws, stream["logStreamName"])
    except ClientError as error:
        # Who may not read logs still gets the table, without reasons.
        if error_code(error) not in ("ResourceNotFoundException", "AccessDeniedException"):
            raise


def _events(aws: Aws, stream: str) -> Iterator[str]:
    token: dict[str, Any] = {}
    while True:
        answer = aws.logs.get_log_events(
            logGroupName=LOG_GROUPS[TRANSFORM], logStreamName=stream, startFromHead=True, **token
        )
        yield from (event["message"] for event in answer["events"])
        following = {"nextToken": answer["nextForwardToken"]}
        if not answer["events"] or following == token:
            return
        token = following


def _reason(reasons: dict[str, str], name: str) -> str:
    said = next((text for key, text in reasons.items() if key.endswith(f"/{name}")), "")
    return f"{NO_ANSWER}: {said}" if said else NO_ANSWER
