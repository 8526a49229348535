"""Amazon SageMaker: train, tune, deploy, invoke, clean up. `python launch/sagemaker.py --help`."""

import sys
from pathlib import Path

# This file has the name of a package that it needs: its own folder must not be searched.
_HERE = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != _HERE]

try:
    from sagelight.cloud.door import main
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
