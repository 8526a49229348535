from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import boto3
import pytest

from rehearsal.conftest import Stage
from sagelight.rehearsal.logs import GROUP, LogStream
from sagelight.rehearsal.server import REGION

JOBS = 8


@pytest.mark.usefixtures("_switching_often")
def test_jobs_that_begin_together_find_the_same_group(stage: Stage) -> None:
    url = stage.running.url
    logs = boto3.client(
        "logs", REGION, endpoint_url=url, aws_access_key_id="a", aws_secret_access_key="b"
    )
    together = Barrier(JOBS)

    def begin(number: int) -> None:
        together.wait()
        stream = LogStream(logs, f"job-{number}")
        stream.write(f"line of {number}")
        stream.close()

    with ThreadPoolExecutor(JOBS) as threads:
        list(threads.map(begin, range(JOBS)))
    groups = stage.logs.describe_log_groups(logGroupNamePrefix=GROUP)["logGroups"]
    # moto keeps what other rehearsals of this process have written.
    streams = stage.logs.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix="job-")
    assert len(groups) == 1
    found = {stream["logStreamName"].split("/")[0] for stream in streams["logStreams"]}
    assert found == {f"job-{number}" for number in range(JOBS)}
