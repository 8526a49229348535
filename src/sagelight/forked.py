"""What `sagelight.forking` loads before anything else, so that its process starts and ends quickly."""

from sagelight.processes import collect_rarely

collect_rarely()
