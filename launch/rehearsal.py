"""SageMaker, S3 and logs on loopback until Ctrl-C. `python launch/rehearsal.py --help`."""

import sys

try:
    from sagelight.rehearsal.command import main
except ModuleNotFoundError as error:
    if error.name != "sagelight":
        raise
    print(
        "error: this Python has no sagelight. Type `make venv`, then `source .venv/bin/activate`.",
        file=sys.stderr,
    )
    sys.exit(2)

if __name__ == "__main__":
    sys.exit(main())
