"""Which objects a transform job reads: those below a prefix, or those of a manifest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Record:
    """One object of the input: where it lies, and its name below the input's prefix."""

    bucket: str
    key: str
    name: str


def records_of(request: Mapping[str, Any], s3: Any) -> tuple[str, list[Record]]:
    """The input's URI and its objects; the names below the last folder of a prefix, or below a manifest's."""
    source = request["TransformInput"]["DataSource"]["S3DataSource"]
    bucket, key = place_of(source["S3Uri"])
    if source["S3DataType"] == "ManifestFile":
        return source["S3Uri"], _listed_in(s3, bucket, key)
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
    # A prefix means every key that begins so.
    folder = key[: key.rfind("/") + 1]
    return source["S3Uri"], [
        Record(bucket, entry["Key"], entry["Key"].removeprefix(folder))
        for page in pages
        for entry in page.get("Contents", ())
    ]


def place_of(uri: str) -> tuple[str, str]:
    """Bucket and key; a key may hold any sign, so this is no URL to parse."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def _listed_in(s3: Any, bucket: str, key: str) -> list[Record]:
    text = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    head, *names = json.loads(text)
    below, prefix = place_of(head["prefix"])
    return [Record(below, prefix + name, name) for name in names]
