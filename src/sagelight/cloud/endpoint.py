"""Asking an endpoint from Python, as the SageMaker SDK's predictors are asked.

predictor = Predictor("resnet18-0123456789")
predictor.predict(img_bytes, initial_args={"ContentType": "image/jpeg"})
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlparse

from sagelight.cloud.answers import error_code
from sagelight.cloud.client import Aws, explained
from sagelight.cloud.endpoint_settings import ASYNC, REALTIME, SERVERLESS
from sagelight.cloud.place import ASSUMED_REGION, region_of
from sagelight.cloud.settings import CloudSettings
from sagelight.config.setting import AUTO
from sagelight.errors import CloudError

JSON = "application/json"
LOOPBACK = "127.0.0.1"
LONGEST_PAUSE = 2.0
# What SageMaker lets through.
MOST_BYTES = {REALTIME: 6_291_456, SERVERLESS: 4_194_304, ASYNC: 1_000_000_000}
# How images begin; of RIFF files only WebP is one.
_MAGIC = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
)


class Predictor:
    """An endpoint, asked.

    Attributes:
        endpoint_name: as it was deployed.
    """

    def __init__(
        self,
        endpoint_name: str,
        region: str = AUTO,
        endpoint_url: str | None = None,
        accept: str = JSON,
        aws: Aws | None = None,
    ) -> None:
        """Open no connection.

        Args:
            region: where it was deployed; `auto` is that of your AWS profile or environment.
            endpoint_url: where the AWS API answers; a rehearsal's address, or None for what AWS_ENDPOINT_URL says.
            accept: kind of answer, `application/json` or `text/csv`.
            aws: clients to use instead.

        Raises:
            CloudError: no region is set, or boto3 is not installed.
        """
        self.endpoint_name = endpoint_name
        self.accept = accept
        if aws is None:
            rehearsed = urlparse(endpoint_url or "").hostname == LOOPBACK
            cloud = CloudSettings(
                name="rehearsal" if rehearsed else "aws",
                region=ASSUMED_REGION if rehearsed and region == AUTO else region,
                endpoint_url=endpoint_url,
            )
            aws = Aws(cloud, region_of(cloud))
        self._aws = aws

    def predict(
        self,
        data: bytes | bytearray,
        initial_args: Mapping[str, str] | None = None,
        target_variant: str | None = None,
        inference_id: str | None = None,
        custom_attributes: str | None = None,
    ) -> Any:
        """Ask for the labels of one image.

        Args:
            data: the bytes of an image file.
            initial_args: arguments of InvokeEndpoint, such as {"ContentType": "image/jpeg"}; without that one, the
                first bytes tell.

        Returns:
            The answer: of JSON its content, `label`, `confidence`, `top` and `probabilities`; of CSV its text.

        Raises:
            CloudError: no such endpoint, an image that it refuses, or AWS does not let you.
        """
        extra = {
            "TargetVariant": target_variant,
            "InferenceId": inference_id,
            "CustomAttributes": custom_attributes,
        }
        given = {**_typed(data, self.accept), **{k: v for k, v in extra.items() if v is not None}}
        with explained(f"asking {self.endpoint_name}"):
            answer = self._aws.runtime.invoke_endpoint(
                EndpointName=self.endpoint_name,
                Body=bytes(data),
                **{**given, **(initial_args or {})},
            )
            return _content(answer["Body"].read(), answer["ContentType"])

    def predict_async(
        self,
        data: bytes | bytearray | None = None,
        input_path: str | None = None,
        initial_args: Mapping[str, str] | None = None,
    ) -> AsyncAnswer:
        """Ask an asynchronous endpoint: the image goes to S3, and so will the answer.

        Args:
            data: the bytes of an image file; None where it lies at `input_path` already.
            input_path: S3 URI of the image; None puts it beside the answers.

        Raises:
            CloudError: as `predict`.
        """
        if data is not None:
            input_path = self._put(bytes(data), input_path)
        if input_path is None:
            raise CloudError("which image? Give data=BYTES or input_path=s3://...")
        given = _typed(data or b"", self.accept)
        with explained(f"asking {self.endpoint_name}"):
            answer = self._aws.runtime.invoke_endpoint_async(
                EndpointName=self.endpoint_name,
                InputLocation=input_path,
                **{**given, **(initial_args or {})},
            )
        return AsyncAnswer(self._aws, answer["OutputLocation"], answer.get("FailureLocation"))

    def delete_endpoint(self) -> None:
        """Delete the endpoint, and what belongs to it alone.

        Raises:
            CloudError: no such endpoint, or one that was not made by sagelight.
        """
        from sagelight.cloud.cleanup import remove_endpoint

        remove_endpoint(self._aws, self.endpoint_name)

    def _put(self, data: bytes, uri: str | None) -> str:
        uri = uri or f"{self._answers()}/inputs/{uuid.uuid4()}"
        place = urlparse(uri)
        with explained(f"uploading {uri}"):
            self._aws.s3.put_object(Bucket=place.netloc, Key=place.path.lstrip("/"), Body=data)
        return uri

    def _answers(self) -> str:
        with explained(f"looking up the endpoint {self.endpoint_name}"):
            found = self._aws.sagemaker.describe_endpoint(EndpointName=self.endpoint_name)
        config = found.get("AsyncInferenceConfig")
        if not config:
            raise CloudError(
                f"{self.endpoint_name} is not asynchronous. Use predict, or deploy it with mode=async."
            )
        return str(config["OutputConfig"]["S3OutputPath"]).rstrip("/")


@dataclass(frozen=True)
class AsyncAnswer:
    """An answer that will lie in S3, or the reason why there is none."""

    aws: Aws
    output_path: str
    failure_path: str | None

    def get_result(self, seconds: float = 900.0) -> Any:
        """Wait for the answer, at most so many seconds.

        Raises:
            CloudError: the endpoint failed at it, or there is no answer in time.
        """
        deadline, pause = time.monotonic() + seconds, 0.1
        while True:
            found = self._read(self.output_path)
            if found is not None:
                return _content(*found)
            failed = self._read(self.failure_path) if self.failure_path else None
            if failed is not None:
                said = failed[0].decode(errors="replace")
                raise CloudError(f"the endpoint refused the image: {said}")
            if time.monotonic() >= deadline:
                raise CloudError(
                    f"no answer within {seconds:g} s. It will lie in {self.output_path}; "
                    "type timeout_seconds=N to wait longer."
                )
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _read(self, uri: str) -> tuple[bytes, str] | None:
        from botocore.exceptions import ClientError

        place = urlparse(uri)
        with explained(f"looking for {uri}"):
            try:
                found = self.aws.s3.get_object(Bucket=place.netloc, Key=place.path.lstrip("/"))
                return found["Body"].read(), found.get("ContentType", "")
            except ClientError as error:
                # Without the right to list a bucket, what is not there yet is forbidden.
                if error_code(error) in ("NoSuchKey", "404", "403", "AccessDenied"):
                    return None
                raise


def content_type_of(data: bytes | bytearray) -> str:
    """The media type of an image file by its first bytes; `application/x-image` where they tell nothing."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for magic, kind in _MAGIC if data.startswith(magic)), "application/x-image")


def _typed(data: bytes | bytearray, accept: str) -> dict[str, str]:
    return {"ContentType": content_type_of(data), "Accept": accept}


def _content(body: bytes, content_type: str) -> Any:
    """JSON as what it holds; what S3 keeps without a type is looked into."""
    text = body.decode("utf-8", errors="replace")
    if content_type.startswith(JSON) or text[:1] in "{[":
        return json.loads(text)
    return text
