"""The photos of a transform job: from a folder here, a prefix in S3, or a manifest of either."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sagelight.cloud.answers import error_code
from sagelight.cloud.client import Aws, explained
from sagelight.cloud.data import Cargo, loose_photos
from sagelight.cloud.transform_manifest import MANIFESTS, S3, parse_manifest
from sagelight.data.index import EXTENSIONS, image_paths
from sagelight.errors import CloudError, DataError

# The most that one request of a transform job may carry.
MOST_PAYLOAD_MB = 100
MB = 2**20


@dataclass(frozen=True)
class Photo:
    """One object of S3 to be: its name below the prefix, its bytes, and what tells its content from another's."""

    name: str
    size: int
    mark: str = ""


@dataclass(frozen=True)
class Inputs:
    """What a transform job is to read.

    Attributes:
        prefix: S3 URI that photos lie below, with a slash at the end; empty for photos that go up first.
        refused: images by name that cannot be sent, with the reason; they go into the table of errors.
        left_out: what lies there and is no image by its name.
        cargo: what goes up first; None for what lies in S3 already.
        whole: whether the prefix holds these photos and nothing else, so that no manifest is needed.
        listed_in: S3 URI of a person's own manifest, for as long as only S3 knows what it lists.
        known: False while only S3 can say which photos there are.
    """

    prefix: str
    photos: tuple[Photo, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()
    left_out: tuple[str, ...] = ()
    cargo: Cargo | None = None
    whole: bool = True
    listed_in: str = ""
    known: bool = True

    @property
    def size(self) -> int:
        """Bytes of all photos."""
        return sum(photo.size for photo in self.photos)

    @property
    def largest_mb(self) -> int:
        """Size of the largest photo in MB, rounded up; 0 where there is none."""
        return -(-max((photo.size for photo in self.photos), default=0) // MB)

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 over where the photos lie, their names and their contents."""
        digest = hashlib.sha256(self.prefix.encode())
        for photo in self.photos:
            digest.update(f"{photo.name}\0{photo.size}\0{photo.mark}\n".encode())
        return digest.hexdigest()


def local_inputs(given: Path) -> Inputs:
    """The photos of a folder at any depth, or a single one, as they would go up.

    Raises:
        DataError: none there, a name that is not UTF-8, or a file that cannot be read.
    """
    if given.is_file():
        root, names, others = given.parent, [given.name], []
    else:
        root, names, others = given, *_folder(given)
    sizes = {name: (root / name).stat().st_size for name in names}
    sent, refused = _sendable(sizes.items())
    if not sent:
        reason = f": {refused[0][0]}: {refused[0][1]}" if refused else ""
        raise DataError(
            f"input={given} has no photos that could be sent (looked for {', '.join(EXTENSIONS)}){reason}. "
            "Name a photo, a folder of photos, s3://BUCKET/PREFIX/ or a manifest."
        )
    cargo = loose_photos(root, sent)
    photos = tuple(Photo(file.name, file.size) for file in cargo.files)
    return Inputs("", photos, tuple(refused), tuple(others), cargo)


def stored_inputs(aws: Aws, uri: str) -> Inputs:
    """The photos of a prefix, of one object, or of a manifest in S3.

    Raises:
        CloudError: there are none, the manifest is none, or AWS refuses.
    """
    if uri.endswith(MANIFESTS):
        return manifest_inputs(aws, _read(aws, uri), uri)
    bucket, _, key = uri.removeprefix(S3).partition("/")
    single = key.lower().endswith(EXTENSIONS)
    folder = key.rpartition("/")[0] if single else key.rstrip("/")
    prefix = f"{folder}/" if folder else ""
    listed = _listed(aws, bucket, key if single else prefix)
    found = [p for p in _below(listed, prefix) if not single or prefix + p.name == key]
    return _stored(f"{S3}{bucket}/{prefix}", found, uri, whole=not single)


def manifest_inputs(aws: Aws, text: str, where: str) -> Inputs:
    """The photos that a manifest lists; each must be in S3.

    Raises:
        CloudError: no manifest, or it lists what is not there.
    """
    prefix, names = parse_manifest(text, where)
    bucket, _, key = prefix.removeprefix(S3).partition("/")
    there = {photo.name: photo for photo in _below(_listed(aws, bucket, key), key)}
    missing = [name for name in names if name not in there]
    if missing:
        raise CloudError(
            f"{where} lists {len(missing)} objects that are not below {prefix}: {_few(missing)}. "
            "Upload them, or take them out of the manifest."
        )
    return _stored(prefix, [there[name] for name in dict.fromkeys(names)], where, whole=False)


def _folder(given: Path) -> tuple[list[str], list[str]]:
    """Photos below a folder, and the other files."""
    if not given.is_dir():
        raise DataError(
            f"input={given} does not exist. Name a photo, a folder of photos, s3://BUCKET/PREFIX/ or a manifest."
        )
    names = list(image_paths(given))
    strange = next((n for n in names if {"Cc", "Cs"} & set(map(unicodedata.category, n))), None)
    if strange is not None:
        raise DataError(f"{given}: {strange!r} cannot be a name in S3. Rename it.")
    everything = (p.relative_to(given).as_posix() for p in sorted(given.rglob("*")) if p.is_file())
    return names, sorted(set(everything).difference(names))


def _stored(prefix: str, found: list[Photo], where: str, whole: bool) -> Inputs:
    """Those of the objects below a prefix that can be labelled."""
    files = [photo for photo in found if not photo.name.endswith("/") and photo.name]
    images = {p.name: p for p in files if p.name.lower().endswith(EXTENSIONS)}
    sent, refused = _sendable((photo.name, photo.size) for photo in images.values())
    if not sent:
        raise CloudError(
            f"input={where}: of {len(found)} objects there, none is a photo that could be sent "
            f"(looked for {', '.join(EXTENSIONS)}). Type input=s3://BUCKET/PREFIX/ of a folder of photos."
        )
    return Inputs(
        prefix,
        tuple(images[name] for name in sorted(sent)),
        tuple(refused),
        tuple(photo.name for photo in files if photo.name not in images),
        whole=whole and len(sent) == len(found),
    )


def _sendable(sizes: Iterable[tuple[str, int]]) -> tuple[list[str], list[tuple[str, str]]]:
    sent, refused = [], []
    for name, size in sizes:
        if size == 0:
            refused.append((name, "empty file (0 bytes)"))
        elif size > MOST_PAYLOAD_MB * MB:
            refused.append(
                (name, f"{size / MB:.0f} MB, and a transform request carries {MOST_PAYLOAD_MB}")
            )
        else:
            sent.append(name)
    return sent, refused


def _listed(aws: Aws, bucket: str, prefix: str) -> list[dict[str, Any]]:
    with explained(f"looking into {S3}{bucket}/{prefix}"):
        pages = aws.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [entry for page in pages for entry in page.get("Contents", ())]


def _below(entries: Iterable[dict[str, Any]], prefix: str) -> list[Photo]:
    return [
        Photo(entry["Key"].removeprefix(prefix), entry["Size"], entry["ETag"].strip('"'))
        for entry in entries
    ]


def _read(aws: Aws, uri: str) -> str:
    from botocore.exceptions import ClientError

    bucket, _, key = uri.removeprefix(S3).partition("/")
    with explained(f"reading {uri}"):
        try:
            body: bytes = aws.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        except ClientError as error:
            if error_code(error) == "NoSuchKey":
                raise CloudError(f"input={uri}: there is no such object.") from error
            raise
    return body.decode("utf-8", "replace")


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
