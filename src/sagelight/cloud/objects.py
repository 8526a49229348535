"""Objects below s3://BUCKET/PREFIX, for photos that are streamed rather than copied to a job."""

from __future__ import annotations

import os
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sagelight.cloud.answers import careful, error_code
from sagelight.cloud.client import AGENT, ATTEMPTS, explained, guarded
from sagelight.errors import CloudError

S3 = "s3://"


class Objects:
    """One prefix of a bucket. Region and keys are those of the environment; forked processes connect anew."""

    def __init__(self, uri: str) -> None:
        """Opens no connection.

        Raises:
            CloudError: boto3 is not installed, or the address names no bucket.
        """
        if find_spec("boto3") is None:
            raise CloudError(
                f"boto3 is not installed, and {uri} needs it. Type pip install 'sagelight[aws]'."
            )
        bucket, _, prefix = uri.removeprefix(S3).partition("/")
        if not bucket:
            raise CloudError(f"{uri} names no bucket. Type s3://BUCKET/PREFIX.")
        self.uri = uri.rstrip("/")
        self._bucket, self._prefix = bucket, prefix.strip("/")
        self._process = os.getpid()

    def sizes(self) -> dict[str, int]:
        """Bytes of every object, by its name below the prefix.

        Raises:
            CloudError: the bucket cannot be listed.
        """
        folder, found = self._key(""), dict[str, int]()
        with explained(f"looking into {self.uri}"):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=folder):
                for entry in page.get("Contents", ()):
                    found[entry["Key"].removeprefix(folder)] = int(entry["Size"])
        return found

    def read(self, name: str) -> bytes | None:
        """A small object; None where there is none of that name.

        Raises:
            CloudError: it cannot be read.
        """
        from botocore.exceptions import ClientError

        with explained(f"reading {self.uri}/{name}"):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=self._key(name))
            except ClientError as error:
                if error_code(error) in ("NoSuchKey", "404"):
                    return None
                raise
            content: bytes = answer["Body"].read()
        return content

    def write(self, name: str, content: bytes) -> None:
        """Put a small object.

        Raises:
            CloudError: the bucket refuses it.
        """
        with explained(f"writing {self.uri}/{name}"):
            self._client.put_object(Bucket=self._bucket, Key=self._key(name), Body=content)

    def upload(self, path: Path, name: str) -> None:
        """Put a file, in parts where it is large.

        Raises:
            CloudError: the bucket refuses it, or the line keeps breaking.
        """
        with explained(f"uploading {self.uri}/{name}"):
            self._client.upload_file(str(path), self._bucket, self._key(name))

    def download(self, name: str, path: Path) -> None:
        """Write an object to a file.

        Raises:
            CloudError: there is none of that name, or it cannot be read.
        """
        with explained(f"downloading {self.uri}/{name}"):
            self._client.download_file(self._bucket, self._key(name), str(path))

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_connected"}

    @property
    def _client(self) -> Any:
        if self._process != os.getpid():
            self.__dict__.pop("_connected", None)
            self._process = os.getpid()
        return self._connected

    @cached_property
    def _connected(self) -> Any:
        import boto3
        from botocore.config import Config

        retries = {"total_max_attempts": ATTEMPTS, "mode": "adaptive"}
        config = Config(retries=retries, user_agent_extra=AGENT)
        return guarded(careful(boto3.session.Session().client("s3", config=config)))

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name
