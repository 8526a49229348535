"""boto3 clients, and AWS's errors in words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from sagelight import __version__
from sagelight.cloud.answers import BUSY, careful, clock_off, error_code, is_unsure
from sagelight.cloud.extra import require_aws
from sagelight.cloud.settings import CloudSettings
from sagelight.errors import CloudError

ATTEMPTS = 8
# In the records of AWS every call of this project says so.
AGENT = f"sagelight/{__version__}"
_DEFAULT_BUCKET = re.compile(r"sagemaker-[a-z0-9-]+-(\d{12})")
_SECONDS = 30
_ANSWER_SECONDS = 70
# The rehearsal asks for a key and takes any.
_REHEARSED = {"aws_access_key_id": "rehearsal", "aws_secret_access_key": "rehearsal"}
_EXPIRED = ("ExpiredToken", "ExpiredTokenException", "RequestExpired")
_UNKNOWN_KEY = (
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
)
_FEWER_JOBS = "another cloud.instance_type or fewer hpo.max_parallel_jobs"
# How botocore begins to say what else went wrong on the line.
_WRAPPED = "An HTTP Client raised an unhandled exception: "
FORBIDDEN = ("AccessDenied", "AccessDeniedException", "403", "UnauthorizedOperation")


class Aws:
    """The services that jobs and endpoints need, at AWS or where `cloud.endpoint_url` says."""

    def __init__(self, cloud: CloudSettings, region: str) -> None:
        """Opens no connection.

        Raises:
            CloudError: boto3 is not installed.
        """
        require_aws()
        import boto3
        from botocore.config import Config

        keys = _REHEARSED if cloud.name == "rehearsal" else {}
        session = boto3.session.Session(region_name=region, **keys)
        # Adaptive retries slow down when throttled, with jitter; dropped connections are retried too.
        config = Config(
            retries={"total_max_attempts": ATTEMPTS, "mode": "adaptive"},
            connect_timeout=_SECONDS,
            read_timeout=_SECONDS,
            max_pool_connections=32,
            user_agent_extra=AGENT,
            s3={"addressing_style": "path"} if cloud.endpoint_url else None,
        )

        def client(service: str) -> Any:
            return careful(session.client(service, endpoint_url=cloud.endpoint_url, config=config))

        def patient(service: str) -> Any:
            # An answer of an endpoint may take 60 s, and is then not asked for again and again.
            asking = config.merge(
                Config(read_timeout=_ANSWER_SECONDS, retries={"mode": "standard"})
            )
            return careful(session.client(service, endpoint_url=cloud.endpoint_url, config=asking))

        self._client, self._patient = client, patient
        self.kms_key = cloud.kms_key

    @cached_property
    def sagemaker(self) -> Any:
        """Jobs, models and endpoints."""
        return self._client("sagemaker")

    @cached_property
    def s3(self) -> Any:
        """Buckets."""
        return guarded(self._client("s3"), self.kms_key)

    @cached_property
    def logs(self) -> Any:
        """CloudWatch Logs."""
        return self._client("logs")

    @cached_property
    def runtime(self) -> Any:
        """What asks endpoints."""
        return self._patient("sagemaker-runtime")

    @cached_property
    def scheduler(self) -> Any:
        """EventBridge Scheduler."""
        return self._client("scheduler")

    @cached_property
    def scaling(self) -> Any:
        """Application Auto Scaling."""
        return self._client("application-autoscaling")


def guarded(s3: Any, kms_key: str | None = None) -> Any:
    """An S3 client whose every call names the owner of an account's default bucket, and the key of what it puts.

    The name of such a bucket can be guessed, and somebody else may have taken it before the account did.
    """

    def complete(params: dict[str, Any], model: Any, **_: Any) -> None:
        owner = _DEFAULT_BUCKET.fullmatch(str(params.get("Bucket", "")))
        if owner and "ExpectedBucketOwner" in model.input_shape.members:
            params.setdefault("ExpectedBucketOwner", owner.group(1))
        if kms_key and model.name in ("PutObject", "CreateMultipartUpload"):
            params |= {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key}

    s3.meta.events.register("provide-client-params.s3.*", complete)
    return s3


@contextmanager
def explained(doing: str, quota: str = _FEWER_JOBS) -> Iterator[None]:
    """Turn what AWS refuses into one message.

    Args:
        doing: what was tried, such as `starting the job`.
        quota: what to type where the account's quota is used up.

    Raises:
        CloudError: what happened, why, and what to type.
    """
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except (ClientError, BotoCoreError, Boto3Error, ResponseParserError) as error:
        cause = _beneath(error)
        if isinstance(cause, ClientError):
            said = f"was refused: {_said(cause)}. {_advice(cause, quota)}".strip()
        else:
            said = f"failed: {_offline(cause)}"
        raise CloudError(f"{doing} {said}") from cause


def _beneath(error: Exception) -> Exception:
    """The error of the service or of the line below what boto3's transfers make of it."""
    from boto3.exceptions import RetriesExceededError, S3UploadFailedError

    if isinstance(error, RetriesExceededError):
        found = error.last_exception
    else:
        found = error.__context__ if isinstance(error, S3UploadFailedError) else error
    return found if isinstance(found, Exception) else error


def _said(error: Any) -> str:
    message = error.response.get("Error", {}).get("Message") or str(error)
    return f"{message.rstrip('.')} ({error_code(error)})"


def _advice(error: Any, quota: str) -> str:
    code, message = error_code(error), str(error).lower()
    off = clock_off(error)
    if off:
        return f"This machine's clock is {off} AWS's. Set it, then repeat the same command."
    if code == "RequestTimeTooSkewed" or "signature expired" in message:
        return "This machine's clock is wrong. Set it, then repeat the same command."
    if code in _EXPIRED:
        return "Your credentials have expired. Type aws sso login, or fetch new keys."
    if code in _UNKNOWN_KEY:
        return "AWS does not know your credentials. Type aws configure."
    if code == "ResourceLimitExceeded":
        return (
            f"Your account's quota is used up. Type {quota}, "
            "or ask for more in the console under Service Quotas."
        )
    if code in ("PermanentRedirect", "301", "AuthorizationHeaderMalformed"):
        return "The bucket lies in another region. Type cloud.region=ITS_REGION or another cloud.bucket."
    if code in ("NoSuchBucket", "404"):
        return "Type cloud.bucket=NAME of a bucket that exists."
    if code in FORBIDDEN:
        return "Your credentials may not do that. Type another cloud.bucket or cloud.role, or ask who manages them."
    if code in BUSY or (code != "ModelError" and is_unsure(error)):
        return "Wait a little, then repeat the same command."
    if code == "ModelError":
        return "The endpoint's own container refused it; its log is in /aws/sagemaker/Endpoints."
    if "endpoint" in message and "find" in message:
        return "Type cleanup all=true dry_run=true for a list of your endpoints, and cloud.region=REGION of where it is."
    if code == "ValidationException" and "image" in message:
        return "Type cloud.image=URI of an image that the role can pull, or cloud.image=auto."
    return ""


def _offline(error: Exception) -> str:
    name = type(error).__name__
    if name in ("NoCredentialsError", "PartialCredentialsError"):
        return (
            "there are no AWS credentials. Type aws configure, or add dry_run=true to see the plan "
            "or cloud=rehearsal to run it on this machine."
        )
    if name in ("UnauthorizedSSOTokenError", "SSOTokenLoadError", "TokenRetrievalError"):
        return "your AWS login has expired. Type aws sso login."
    if name == "ProfileNotFound":
        return f"{error}. Type aws configure list-profiles."
    said = str(error).removeprefix(_WRAPPED).rstrip(".")
    return f"{said}. Repeat the same command; what was uploaded stays."
