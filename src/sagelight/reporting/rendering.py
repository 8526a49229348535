"""From a template beside this module to the text of a self-contained page."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sagelight.reporting.text import FILTERS

HERE = Path(__file__).parent


def render(template: str, content: Mapping[str, Any], filters: Mapping[str, Any] = FILTERS) -> str:
    """The page; everything in `content` is escaped unless it is Markup."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    return environment.get_template(template).render(**content)


def asset(*names: str) -> Markup:
    """Style sheets or scripts beside this module, one after the other, as they stand."""
    return Markup("").join(Markup((HERE / name).read_text(encoding="utf-8")) for name in names)


def script_digest(script: str) -> str:
    """What a content security policy names an inline script by."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
