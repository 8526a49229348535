"""Files into the bucket: once per content, in parallel, continued where an earlier upload stopped."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from sagelight.cloud.client import Aws, error_code, explained
from sagelight.cloud.data import Cargo
from sagelight.cloud.shards import Parcel, shards, single
from sagelight.errors import CloudError
from sagelight.progress import progress

THREADS = 8
# Beyond botocore's own retries, for lines that keep breaking.
PASSES = 4


def ensure_bucket(aws: Aws, bucket: str, region: str, ours: bool) -> None:
    """Find the bucket; create it when it is the account's default one.

    Raises:
        CloudError: it belongs to somebody else, lies in another region, or does not exist.
    """
    from botocore.exceptions import ClientError

    with explained(f"looking at s3://{bucket}"):
        try:
            found = aws.s3.head_bucket(Bucket=bucket)
        except ClientError as error:
            if error_code(error) not in ("404", "NoSuchBucket") or not ours:
                _refuse_elsewhere(error, bucket)
                raise
            place = {} if region == "us-east-1" else {"LocationConstraint": region}
            more = {"CreateBucketConfiguration": place} if place else {}
            aws.s3.create_bucket(Bucket=bucket, **more)
            return
    where = found.get("BucketRegion")
    if where and where != region:
        raise CloudError(_elsewhere(bucket, where))


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


def _refuse_elsewhere(error: Any, bucket: str) -> None:
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    where = headers.get("x-amz-bucket-region")
    if error_code(error) in ("301", "PermanentRedirect") and where:
        raise CloudError(_elsewhere(bucket, where)) from error


def _elsewhere(bucket: str, where: str) -> str:
    return (
        f"s3://{bucket} lies in {where}, and a job reads only from its own region. "
        f"Type cloud.region={where} or another cloud.bucket."
    )
