"""What a request says it sends, and what it wants back."""

from __future__ import annotations

from http import HTTPStatus

from sagelight.serving.inference import CSV, JSON
from sagelight.serving.server.refusal import Refusal

# Also for bytes of any kind: the bytes say what they are, and a header is often wrong.
IMAGE_PREFIX = "image/"
IMAGE_KINDS = ("application/x-image", "application/octet-stream", "")
# The best first, where a header accepts several alike.
ANSWERS = (JSON, CSV)


def is_json(content_type: str) -> bool:
    """Whether a body is JSON; otherwise it is one photo.

    Raises:
        Refusal: it is neither (415).
    """
    kind = bare(content_type)
    if kind == JSON:
        return True
    if kind.startswith(IMAGE_PREFIX) or kind in IMAGE_KINDS:
        return False
    raise Refusal(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        f"content type {kind} is not served. Send the bytes of one photo with Content-Type: image/jpeg "
        f'(or the like), or {JSON} with {{"image": "<base64>"}}.',
    )


def answer_kind(accept: str) -> str:
    """The one of ANSWERS that an Accept header likes best.

    Raises:
        Refusal: it wants neither (406).
    """
    ranges = [_range(part) for part in accept.split(",") if part.strip()] or [("*/*", 1.0)]
    liking = {kind: _liking(kind, ranges) for kind in ANSWERS}
    best = max(ANSWERS, key=lambda kind: liking[kind])
    if not liking[best]:
        raise Refusal(
            HTTPStatus.NOT_ACCEPTABLE,
            f"answers are {' or '.join(ANSWERS)}, and Accept: {accept[:200]} names neither.",
        )
    return best


def bare(content_type: str) -> str:
    """A media type without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def _range(part: str) -> tuple[str, float]:
    for parameter in part.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return bare(part), min(1.0, max(0.0, float(value)))
            except ValueError:
                return bare(part), 0.0
    return bare(part), 1.0


def _liking(kind: str, ranges: list[tuple[str, float]]) -> float:
    """The quality that the most precise of the matching ranges gives to a kind; 0 without a match."""
    for pattern in (kind, f"{kind.partition('/')[0]}/*", "*/*"):
        found = [quality for name, quality in ranges if name == pattern]
        if found:
            return max(found)
    return 0.0
