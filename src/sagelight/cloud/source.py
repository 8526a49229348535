"""The code that goes up: tracked source only, in an archive whose bytes depend on nothing else."""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sagelight.cloud.request import PROGRAM
from sagelight.config.groups import conf_dir, requirements_dir
from sagelight.errors import CloudError
from sagelight.secrets import secret_in

LARGEST_FILE = 10_000_000
# Keys and passwords have other names, and lie in hidden files.
SOURCE = {".py", ".yaml", ".yml", ".json", ".toml", ".txt", ".md", ".j2", ".css", ".js", ".html", ".typed"}  # fmt: skip
EXPERIMENTS = "experiments"
_PROGRAM = '''\
"""What the container starts: the code beside this file, whatever else is installed."""

import os
import sys
from pathlib import Path, PurePosixPath

here = Path(__file__).resolve().parent
os.chdir(here)
sys.path.insert(0, str(here / "src"))

from sagelight.container.entry import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
'''


@dataclass(frozen=True)
class Source:
    """The archive of the code: its bytes, how many files are in it, and which ones git does not track yet."""

    archive: bytes
    files: int
    left_out: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the archive."""
        return hashlib.sha256(self.archive).hexdigest()


def pack_source(experiments: dict[str, Path] | None = None, studies: bool = False) -> Source:
    """Pack src, conf and the job's requirements into a reproducible tar.gz.

    In a git checkout only tracked files go in, as they are on disk; of an installed package, its files. Hidden files and
    those that are no source stay here, tracked or not.

    Args:
        experiments: experiment files of the person's own, by the name that they get in the archive.
        studies: whether a whole study runs inside the job, which needs more packages.

    Raises:
        CloudError: a file over 10 MB, which is no source, or one that holds a secret.
    """
    contents: dict[str, bytes] = {}
    left_out: list[str] = []
    for root, place in ((_package(), "src/sagelight"), (conf_dir(), "conf")):
        files, new = _files(root)
        contents |= {f"{place}/{name}": _read(path) for name, path in files.items()}
        left_out += new
    contents["requirements.txt"] = job_requirements(studies).encode()
    contents[PROGRAM] = _PROGRAM.encode()
    for name, path in (experiments or {}).items():
        contents[f"{EXPERIMENTS}/{name}"] = path.read_bytes()
    for name, content in contents.items():
        _refuse_secret(name, content)
    return Source(_archive(contents), len(contents), tuple(left_out))


def job_requirements(studies: bool = False) -> str:
    """What pip installs in the container, by its hashes: all that training needs and AWS's PyTorch image does not bring."""
    name = "study.txt" if studies else "job.txt"
    return (requirements_dir() / "locked" / name).read_text(encoding="utf-8")


def _package() -> Path:
    return Path(__file__).resolve().parents[1]


def _files(root: Path) -> tuple[dict[str, Path], list[str]]:
    """The source below `root` by name, and the new files that git neither tracks nor ignores."""
    tracked = _listed(root)
    # An installed package may lie outside a checkout, or in an ignored folder of somebody's.
    found = [root / name for name in tracked] if tracked else list(root.rglob("*"))
    kept = [path for path in found if path.is_file() and "__pycache__" not in path.parts]
    new = _listed(root, "--others", "--exclude-standard") if tracked else []
    files = {path.relative_to(root).as_posix(): path for path in sorted(kept)}
    left = [*new, *(name for name in files if not _is_source(name))]
    files = {name: path for name, path in files.items() if _is_source(name)}
    return files, [f"{root.name}/{name}" for name in left]


def _is_source(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix in SOURCE and not any(part.startswith(".") for part in path.parts)


def _refuse_secret(name: str, content: bytes) -> None:
    found = secret_in(content.decode(errors="replace"))
    if found:
        raise CloudError(
            f"{name} holds what looks like {found}, and would go into a bucket. Take it out of the file."
        )


def _listed(root: Path, *options: str) -> list[str]:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "ls-files", "-z", *options],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [name for name in done.stdout.split("\0") if name]


def _read(path: Path) -> bytes:
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise CloudError(
            f"{path} has {size / 1e6:,.0f} MB, and only source goes into a job. Move it out of the checkout; "
            "photos belong in data.root and weights in model.weights."
        )
    return path.read_bytes()


def _archive(contents: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    # Without a time and a name inside, equal files give equal bytes.
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, filename="") as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, content in sorted(contents.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()
