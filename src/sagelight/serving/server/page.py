"""GET /: a page where a person drops a photo and sees labels, bars and, if asked, a heat map."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from sagelight.serving.server.service import Service

HERE = Path(__file__).parent
MOST_LABELS = 12


class Page:
    """One file that asks nothing of any other server, and whose policy holds it to that."""

    def __init__(self, service: Service) -> None:
        settings, spec = service.settings, service.predictor.spec
        style, script = (_asset(name) for name in ("page.css", "page.js"))
        filling = {
            "title": html.escape(spec.backbone),
            "about": html.escape(_about(spec.backbone, spec.labels)),
            "explain": str(settings.explain).lower(),
            "most": str(settings.max_body_bytes),
            "address": html.escape(f"http://{settings.host}:{settings.port}"),
            "style": style,
            "script": script,
        }
        page = re.sub(r"\{(\w+)\}", lambda found: filling[found[1]], _asset("page.html"))
        self._page = page
        self._headers = {
            "Content-Security-Policy": _policy(style, script),
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-cache",
        }

    async def __call__(self, request: Request) -> Response:
        return Response(self._page, headers=self._headers, media_type="text/html")


def _about(backbone: str, labels: list[str]) -> str:
    shown = ", ".join(labels[:MOST_LABELS])
    more = f" and {len(labels) - MOST_LABELS} more" if len(labels) > MOST_LABELS else ""
    return f"A {backbone} that knows {len(labels)} labels: {shown}{more}."


def _policy(style: str, script: str) -> str:
    return "; ".join(
        (
            "default-src 'none'",
            f"style-src 'sha256-{_digest(style)}'",
            f"script-src 'sha256-{_digest(script)}'",
            "img-src blob: data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _asset(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")
