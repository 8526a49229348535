"""POST /invocations: photos in a body, answers in JSON or CSV."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from sagelight.serving.inference import CSV, output_fn
from sagelight.serving.server.answers import json_response
from sagelight.serving.server.bodies import Bodies, Held, instances
from sagelight.serving.server.media import answer_kind, is_json
from sagelight.serving.server.remote import Fetcher
from sagelight.serving.server.service import Service


class Invocations:
    """Answers requests with what the service says about their photos."""

    def __init__(self, service: Service, bodies: Bodies, fetcher: Fetcher) -> None:
        self._service = service
        self._bodies = bodies
        self._fetcher = fetcher

    async def __call__(self, request: Request) -> Response:
        """One answer for one photo, `{"predictions": [...]}` (CSV: a line each) for `instances`.

        Raises:
            Refusal: the request cannot be served, and why.
            ModelFailure: the network failed.
        """
        headers = request.headers
        kind = answer_kind(headers.get("accept", "*/*"))
        json_sent = is_json(headers.get("content-type", ""))
        facts = request.state.facts
        self._service.check_room()
        with self._bodies.held() as held:
            body = await self._bodies.read(request, held)
            facts["bytes"] = len(body)
            with self._service.admitted():
                photos, many = await self._photos(body, held) if json_sent else ([body], False)
                answers = await self._service.answers(photos, facts)
        if kind == CSV:
            return Response("".join(output_fn(each, CSV)[0] for each in answers), media_type=CSV)
        return json_response({"predictions": answers} if many else answers[0])

    async def _photos(self, body: bytes, held: Held) -> tuple[list[bytes], bool]:
        asked = await self._service.decoding.elsewhere(lambda: instances(body))
        photos = []
        for photo in asked.photos:
            if isinstance(photo, str):
                photo = await self._fetcher.photo(photo, held.left)
                held.add(len(photo))
            photos.append(photo)
        return photos, asked.many
