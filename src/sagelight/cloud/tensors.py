"""The tensors of a job, from where SageMaker's Debugger keeps them in S3 to a folder here."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from sagelight.archives import inside
from sagelight.cloud.answers import error_code
from sagelight.cloud.client import Aws, explained
from sagelight.cloud.place import find_place
from sagelight.cloud.settings import CloudSettings
from sagelight.debugging.writer import COLLECTIONS, END, EVENTS, INDEX
from sagelight.errors import CloudError
from sagelight.progress import progress

# What the service calls the folder of a trial, below the job's.
DEBUG_OUTPUT = "debug-output"
THREADS = 8


def trial_uri(described: Mapping[str, Any]) -> str | None:
    """Where the service keeps the tensors of a training job; None where it was not asked to."""
    hook = described.get("DebugHookConfig")
    if not hook:
        return None
    return f"{hook['S3OutputPath'].rstrip('/')}/{described['TrainingJobName']}/{DEBUG_OUTPUT}"


@contextmanager
def downloaded_trial(uri: str, cloud: CloudSettings) -> Iterator[Path]:
    """A folder with the trial that lies in S3, for as long as the block lasts.

    Args:
        uri: `s3://bucket/prefix` of the trial, or of the job's folder that holds it.

    Raises:
        CloudError: no trial lies there, or AWS refuses the question.
    """
    aws = Aws(cloud, find_place(cloud).place.region)
    with tempfile.TemporaryDirectory(prefix="sagelight-trial-") as scratch:
        folder = Path(scratch) / "trial"
        if not fetch_trial(aws, uri, folder):
            raise CloudError(
                f"trial={uri}: no trial lies there: neither {INDEX}/ nor {COLLECTIONS}/. "
                f"Type trial=s3://BUCKET/PREFIX/JOB/{DEBUG_OUTPUT}, as the job's DebugHookConfig says."
            )
        yield folder


def fetch_trial(aws: Aws, uri: str, folder: Path) -> int:
    """Download a trial; gives how many files it has, 0 where there is none.

    Raises:
        CloudError: AWS refuses.
    """
    place = urlparse(uri)
    bucket, prefix = place.netloc, place.path.strip("/")
    if not bucket:
        raise CloudError(f"trial={uri}: names no bucket. Type trial=s3://BUCKET/PREFIX.")
    with explained(f"looking into {uri}"):
        found = _of_a_trial(_keys(aws, bucket, f"{prefix}/" if prefix else ""))

    def fetch(name: str) -> None:
        path = inside(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        aws.s3.download_file(bucket, found[name], str(path))

    with explained(f"fetching {uri}"), ThreadPoolExecutor(THREADS) as pool:
        for _ in progress(pool.map(fetch, found), len(found), "fetching tensors"):
            pass
    return len(found)


def _keys(aws: Aws, bucket: str, folder: str) -> dict[str, str]:
    """Every key below a folder of the bucket, by its name there."""
    from botocore.exceptions import ClientError

    pages = aws.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=folder)
    try:
        return {
            entry["Key"].removeprefix(folder): entry["Key"]
            for page in pages
            for entry in page.get("Contents", ())
        }
    except ClientError as error:
        if error_code(error) != "NoSuchBucket":
            raise
        raise CloudError(
            f"there is no bucket {bucket}. Type trial=s3://BUCKET/PREFIX of one that exists."
        ) from error


def _of_a_trial(keys: Mapping[str, str]) -> dict[str, str]:
    """Those that make up a trial, in this folder or in the one that the service makes for it."""
    for below in ("", f"{DEBUG_OUTPUT}/"):
        inside = {
            name.removeprefix(below): key for name, key in keys.items() if name.startswith(below)
        }
        if any(name.startswith((f"{INDEX}/", f"{COLLECTIONS}/")) for name in inside):
            return {name: key for name, key in inside.items() if _is_part(name)}
    return {}


def _is_part(name: str) -> bool:
    known = name == END or name.startswith((f"{EVENTS}/", f"{INDEX}/", f"{COLLECTIONS}/"))
    return known and not name.endswith(("/", ".tmp")) and ".." not in name.split("/")
