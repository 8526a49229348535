"""Files into the bucket: once per content, in parallel, continued where an earlier upload stopped."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from sagelight.cloud.answers import error_code
from sagelight.cloud.client import Aws, explained
from sagelight.cloud.data import Cargo
from sagelight.cloud.shards import Parcel, shards, single
from sagelight.progress import progress

THREADS = 8
# Beyond botocore's own retries, for lines that keep breaking.
PASSES = 4


def upload_cargo(aws: Aws, bucket: str, prefix: str, cargo: Cargo) -> int:
    """Upload what is not there yet; photos in shards, because S3 is slow and dear at many small objects.

    Returns:
        Bytes sent; 0 when everything was there.

    Raises:
        CloudError: the bucket refuses, or the line breaks again and again; what was sent stays.
    """
    folder = f"{prefix}/{cargo.key}/"
    with explained(f"looking into s3://{bucket}/{folder}"):
        there = dict(_listed(aws, bucket, folder))
    parcels = shards(cargo.files) if cargo.kind == "data" else single(cargo.files)
    missing = [parcel for parcel in parcels if there.get(folder + parcel.name) != parcel.size]
    if not missing:
        return 0

    def send(parcel: Parcel) -> None:
        with parcel.opened() as path:
            _again(lambda: aws.s3.upload_file(str(path), bucket, folder + parcel.name))

    with explained(f"uploading to s3://{bucket}/{folder}"), ThreadPoolExecutor(THREADS) as pool:
        for _ in progress(pool.map(send, missing), len(missing), f"uploading {cargo.kind}"):
            pass
    return sum(parcel.size for parcel in missing)


def upload_bytes(aws: Aws, bucket: str, key: str, content: bytes) -> None:
    """Put one object, unless one of that name and size is there; names here are made from contents."""
    with explained(f"uploading s3://{bucket}/{key}"):
        if dict(_listed(aws, bucket, key)).get(key) != len(content):
            _again(lambda: aws.s3.put_object(Bucket=bucket, Key=key, Body=content))


def upload_once(
    aws: Aws, bucket: str, key: str, made: Callable[[], AbstractContextManager[Path]]
) -> bool:
    """Put one file, made only when nothing lies under its key; names here are made from contents.

    Returns:
        Whether it was sent.
    """
    with explained(f"uploading s3://{bucket}/{key}"):
        if key in dict(_listed(aws, bucket, key)):
            return False
        with made() as path:
            _again(lambda: aws.s3.upload_file(str(path), bucket, key))
    return True


def is_there(aws: Aws, bucket: str, folder: str, count: int) -> bool:
    """Whether a folder of the bucket holds `count` objects."""
    with explained(f"looking into s3://{bucket}/{folder}"):
        return len(dict(_listed(aws, bucket, folder))) == count


def _again(work: Callable[[], Any]) -> None:
    from boto3.exceptions import S3UploadFailedError
    from botocore.exceptions import HTTPClientError

    for turn in range(1, PASSES + 1):
        try:
            work()
            return
        except (HTTPClientError, S3UploadFailedError) as error:
            cause = error.__context__ if isinstance(error, S3UploadFailedError) else error
            if turn == PASSES or error_code(cause or error):
                raise (cause or error) from error
            time.sleep(random.uniform(0, 2**turn / 4))


def _listed(aws: Aws, bucket: str, prefix: str) -> Iterator[tuple[str, int]]:
    for page in aws.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for entry in page.get("Contents", ()):
            yield entry["Key"], entry["Size"]
