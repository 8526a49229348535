"""A rehearsal that stays: `python launch/rehearsal.py [port=PORT]`."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from sagelight.cli import guarded, refuse_flags
from sagelight.cloud.endpoint_settings import SCHEDULER_VARIABLE
from sagelight.config.setting import setting

HELP = """\
SageMaker, S3 and CloudWatch Logs on this machine, until Ctrl-C. Jobs are really executed, endpoints really answer;
nothing is sent or paid.

  python launch/rehearsal.py port=5000

  port=0
      Port on 127.0.0.1; 0 takes any free one.

Type what it prints into another terminal; then python launch/sagemaker.py, boto3 and the AWS CLI talk to it.
curl -X POST $AWS_ENDPOINT_URL/rehearsal/interrupt/JOB takes a spot job's machine away.
"""
ROLE = "arn:aws:iam::123456789012:role/rehearsal"


@dataclass
class RehearsalSettings:
    port: int = setting(0, "Port on 127.0.0.1; 0 takes any free one.", least=0, most=65535)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C or SIGTERM.

    Returns:
        0 stopped; 2 the person's input.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if any(word in ("--help", "-h") for word in words):
        print(HELP, end="")
        return 0
    return guarded(lambda: _serve(words))


def _serve(words: list[str]) -> None:
    from sagelight.config.verbs import parse_settings
    from sagelight.rehearsal.server import rehearsal

    refuse_flags(words)
    settings = parse_settings(RehearsalSettings, words, "python launch/rehearsal.py")
    ended = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: ended.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        with rehearsal(settings.port) as running:
            print(f"SageMaker, S3 and logs at {running.url} until Ctrl-C. In another terminal:\n")
            for name, value in {
                **running.environment,
                SCHEDULER_VARIABLE: ROLE,
                "SAGEMAKER_ROLE": ROLE,
            }.items():
                print(f"export {name}={value}")
            sys.stdout.flush()
            ended.wait()
            print("\nstopping the jobs and endpoints that still run", file=sys.stderr)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
