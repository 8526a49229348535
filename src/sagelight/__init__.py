"""Fine-tune image classifiers: on this machine, on Amazon SageMaker, or in a rehearsal of it."""

import os

# ONNX Runtime reads it when it is loaded; without it, it keeps an identifier of the machine in the person's cache folder
# and sends what it observes to its maker.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
