"""What looks like a secret: it is refused where it is typed, so that no file, log, upload or report can carry it on."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

# A shorter value of a variable may be a common word.
LEAST = 16
_NAMES = re.compile(
    r"(?:^|[_.-])(?:TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY)(?:$|[_.-])",
    re.IGNORECASE,
)
# They say where a secret is.
_PLACES = re.compile(r"[_.-](?:FILE|PATH|DIR|URI|URL|ARN|NAME|PROFILE)$", re.IGNORECASE)
_PAIR = re.compile(r"""([\w.-]+)=([^\s,;=\[\]{}'"]+)""")
STARS = "***"
_SHAPES = {
    "a password in an address": r"[a-z][a-z0-9+.-]*://[^\s/@:]*:[^\s/@]+@",
    "a name or token in an address": r"https?://[^\s/@:]+@",
    "a signed address": r"X-Amz-(?:Signature|Credential|Security-Token)=",
    "an access key of AWS": r"(?<![A-Z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Z0-9])",
    "a token of Hugging Face": r"hf_[A-Za-z0-9]{30,}",
    "a token of GitHub": r"(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,})",
    "a token of GitLab": r"glpat-[\w-]{20,}",
    "a token of Slack": r"xox[abprs]-[\w-]{10,}",
    "an API key": r"\bsk-[\w-]{32,}",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY",
}
_ANY = re.compile("|".join(_SHAPES.values()))


@cache
def is_secret(name: str) -> bool:
    """Whether what a variable of this name holds is nobody else's business."""
    return bool(_NAMES.search(name)) and not _PLACES.search(name)


def secret_in(text: str, variables: Mapping[str, str] | None = None) -> str | None:
    """What kind of secret a text holds, in words that do not repeat it; None where it holds none.

    Args:
        variables: whose secrets are looked for as well; None is this process's environment.
    """
    if _ANY.search(text):
        return next(what for what, shape in _SHAPES.items() if re.search(shape, text))
    for name, value in (os.environ if variables is None else variables).items():
        if len(value) >= LEAST and is_secret(name) and value in text:
            return f"the value of {name}"
    return None


def secret_among(value: Any) -> str | None:
    """As `secret_in`, for a setting: a text, or texts in lists and mappings, where NAME=VALUE counts by its name, too."""
    for text in _texts(value):
        named = next((name for name, _ in _PAIR.findall(text) if is_secret(name)), None)
        found = f"a value for {named}" if named else secret_in(text)
        if found:
            return found
    return None


def masked(text: str) -> str:
    """A message with stars in the place of secrets; what a person typed may be repeated in it."""
    text = _ANY.sub(STARS, text)
    for name, value in os.environ.items():
        if len(value) >= LEAST and is_secret(name):
            text = text.replace(value, STARS)
    return _PAIR.sub(lambda pair: f"{pair[1]}={STARS}" if is_secret(pair[1]) else pair[0], text)


def without_secrets(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables that other programs may see."""
    return {
        name: value
        for name, value in variables.items()
        if not is_secret(name) and not _ANY.search(value)
    }


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, entry in value.items():
            yield f"{name}={entry}" if isinstance(entry, str) else str(name)
            yield from _texts(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _texts(entry)
