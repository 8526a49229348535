"""Manifests: lists of objects below one prefix of S3, as a transform job reads them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from sagelight.errors import CloudError

S3 = "s3://"
MANIFESTS = (".manifest", ".json")
NO_MANIFEST = 'A manifest is [{"prefix": "s3://BUCKET/FOLDER/"}, "a.jpg", "b/c.jpg"]'


def parse_manifest(text: str, where: str) -> tuple[str, list[str]]:
    """The prefix of a manifest and the names below it.

    Raises:
        CloudError: it is none; the message shows what one looks like.
    """
    try:
        entries: Any = json.loads(text)
    except ValueError as error:
        raise CloudError(f"{where} is no JSON: {error}. {NO_MANIFEST}.") from error
    head, names = (entries[0], entries[1:]) if isinstance(entries, list) and entries else ({}, [])
    prefix = head.get("prefix") if isinstance(head, dict) else None
    if not isinstance(prefix, str) or not prefix.startswith(S3):
        raise CloudError(f"{where} does not begin with a prefix in S3. {NO_MANIFEST}.")
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong or not names:
        what = f"has {json.dumps(wrong[0])} where a name belongs" if wrong else "lists no photos"
        raise CloudError(f"{where} {what}. {NO_MANIFEST}.")
    return prefix, names


def manifest_text(prefix: str, names: Iterable[str]) -> str:
    """A manifest as the service reads it."""
    return json.dumps([{"prefix": prefix}, *names])
