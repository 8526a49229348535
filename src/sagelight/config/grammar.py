"""Hydra's override grammar: reading one override, and writing a value so that it reads back as itself."""

from __future__ import annotations

from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from sagelight.errors import ConfigError


def parse_override(text: str) -> Override:
    """One override, a sweep or a single value.

    Raises:
        ConfigError: not an override, or a deletion.
    """
    try:
        override: Override = OverridesParser.create().parse_override(text)
    except (HydraException, RecursionError) as error:
        hint = (
            " Quote values with special signs: \"key='a b'\"."
            if "=" in text
            else " Type settings as key=value."
        )
        raise ConfigError(f"{text}: not understood.{hint}") from error
    if override.is_delete():
        raise ConfigError(f"{text}: settings cannot be removed, only set. Type {text[1:]}=VALUE.")
    return override


def parse_single(text: str) -> Override:
    """One override with one value.

    Raises:
        ConfigError: as `parse_override`, or a sweep.
    """
    override = parse_override(text)
    if override.is_sweep_override():
        raise ConfigError(
            f"{text}: this is a list of values to try, and this command trains one. "
            "Type one value, or quote a text that holds a comma."
        )
    return override


def hydra_text(value: Any) -> str:
    """A value as text that parses to an equal value of the same type.

    Texts never begin with a double quote, so that they cannot be taken for JSON, which some SDKs wrap values in.
    """
    if isinstance(value, QuotedString):
        return QuotedString(value.text, Quote.single).with_quotes()
    if isinstance(value, str):
        return value if _reads_back(value) else QuotedString(value, Quote.single).with_quotes()
    if isinstance(value, list):
        return f"[{','.join(map(hydra_text, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{hydra_text(k)}:{hydra_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)


def quoted_text(text: str) -> str:
    """A Hydra text that may stand in a list: what is a bare word gets quotes, all else is returned as it is."""
    return QuotedString(text, Quote.single).with_quotes() if _reads_back(text) else text


def _reads_back(text: str) -> bool:
    try:
        # In a list, where less may stand bare than alone.
        override = OverridesParser.create().parse_override(f"key=[{text}]")
    except (HydraException, RecursionError):
        return False
    return bool(override.value() == [text])
