"""What came back from AWS: whole or cut off, AWS's own or somebody else's, and what its errors tell."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

BUSY = (
    "ThrottlingException",
    "Throttling",
    "SlowDown",
    "ServiceUnavailable",
    "ModelNotReadyException",
)
NOT_AWS = "a web page came in place of AWS's answer, as from a network where a browser has to sign in first"
# AWS refuses requests that were signed at another time than its own.
_CLOCKS_MAY_DIFFER = timedelta(minutes=4)


def careful(client: Any) -> Any:
    """A boto3 client that asks again where botocore takes half an answer for a whole one, or a web page for AWS's."""
    from botocore.exceptions import ConnectionClosedError, HTTPClientError

    session = client._endpoint.http_session

    def send(request: Any, **_: object) -> Any:
        answer = session.send(request)
        if _is_page(answer):
            answer.raw.close()
            raise HTTPClientError(error=NOT_AWS)
        length = answer.headers.get("Content-Length")
        bodiless = request.stream_output or request.method == "HEAD" or length is None
        if not bodiless and len(answer.content) < int(length):
            raise ConnectionClosedError(endpoint_url=request.url)
        return answer

    client.meta.events.register("before-send", send)
    return client


def _is_page(answer: Any) -> bool:
    names = [name.lower() for name in answer.headers]
    html = (answer.headers.get("Content-Type") or "").startswith("text/html")
    return html and not any(name.startswith("x-amz") for name in names)


def error_code(error: BaseException | None) -> str:
    """AWS's code of a ClientError, or an empty text."""
    response = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def is_unsure(error: BaseException | None) -> bool:
    """Whether AWS may have done what it was asked: nobody answered, or it broke down meanwhile, or it was asked before."""
    from botocore.exceptions import ConnectionError, HTTPClientError
    from botocore.parsers import ResponseParserError

    response = getattr(error, "response", None)
    if response is None:
        return isinstance(error, (ConnectionError, HTTPClientError, ResponseParserError))
    about = response.get("ResponseMetadata", {})
    return about.get("HTTPStatusCode", 0) >= 500 or (
        error_code(error) in BUSY and about.get("RetryAttempts", 0) > 0
    )


def clock_off(error: Any) -> str:
    """`55 minutes behind`, from the time that AWS's answer bears; empty where the clocks agree."""
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    try:
        theirs = parsedate_to_datetime(headers.get("date", ""))
    except (TypeError, ValueError):
        return ""
    ahead = datetime.now(UTC) - theirs.astimezone(UTC)
    if abs(ahead) < _CLOCKS_MAY_DIFFER:
        return ""
    minutes = round(abs(ahead) / timedelta(minutes=1))
    return f"{minutes} minutes {'ahead of' if ahead > timedelta(0) else 'behind'}"
