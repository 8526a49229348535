from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any

import pytest

from rehearsal.conftest import BUCKET, Stage

TURNS = 60


@pytest.mark.usefixtures("_switching_often")
def test_an_object_can_be_read_while_it_is_replaced(stage: Stage) -> None:
    contents = [letter * 300_000 for letter in (b"a", b"b")]

    def put(turn: int) -> None:
        stage.s3.put_object(Bucket=BUCKET, Key="checkpoint", Body=contents[turn % 2])

    def get(turn: int) -> bytes:
        body: bytes = stage.s3.get_object(Bucket=BUCKET, Key="checkpoint")["Body"].read()
        return body

    statuses: set[int] = set()

    def heard(parsed_response: dict[str, Any], **_: Any) -> None:
        statuses.add(parsed_response["ResponseMetadata"]["HTTPStatusCode"])

    # Of every attempt: what is tried again would hide what went wrong.
    stage.s3.meta.events.register("response-received.s3", heard)
    put(0)
    with ThreadPoolExecutor(4) as threads:
        writing = [threads.submit(put, turn) for turn in range(TURNS)]
        read = list(threads.map(get, range(TURNS)))
        for each in writing:
            each.result()
    assert set(read) <= set(contents)
    assert statuses == {200}


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Host": "evil.example:5000"},
        {"Origin": "https://evil.example", "X-Amz-Target": "SageMaker.ListTrainingJobs"},
        {"Host": "evil.example", "X-Amz-Target": "SageMaker.ListTrainingJobs"},
    ],
)
@pytest.mark.parametrize("path", ["/", f"/{BUCKET}", "/rehearsal/interrupt/job", "/endpoints/a/b"])
@pytest.mark.parametrize("method", ["OPTIONS", "POST", "PUT", "GET"])
def test_no_web_page_can_start_a_job_on_its_readers_machine(
    stage: Stage, method: str, path: str, headers: dict[str, str]
) -> None:
    connection = HTTPConnection(stage.running.url.removeprefix("http://"))
    asking = {"Access-Control-Request-Headers": "x-amz-target", **headers}
    connection.request(method, path, b"{}", asking)
    answer = connection.getresponse()
    assert answer.status == 403
    assert not [name for name, _ in answer.getheaders() if name.startswith("Access-Control")]
    connection.close()
