"""A scanner for secrets that were planted: in bytes as they are, encoded, and inside of archives."""

from __future__ import annotations

import io
import tarfile
import zipfile
import zlib
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote


def leaks(name: str, content: bytes, planted: Mapping[str, str]) -> list[str]:
    """Where which of the planted secrets lie: `FILE/MEMBER: NAME`."""
    return [
        f"{place}: {secret}"
        for place, part in opened(name, content)
        for secret, text in planted.items()
        if any(form in part for form in _forms(text))
    ]


def leaks_in_folder(root: Path, planted: Mapping[str, str]) -> list[str]:
    """The same of all files below a folder, and of their names."""
    found = []
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        found += leaks("a file's name", name.encode(), planted)
        if path.is_file():
            found += leaks(name, path.read_bytes(), planted)
    return found


def opened(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    """A file's bytes, and those of everything that is packed in it."""
    yield name, content
    # What is cut off is looked at as far as it goes.
    with suppress(zlib.error, zipfile.BadZipFile, tarfile.TarError, EOFError):
        if content[:2] == b"\x1f\x8b":
            yield from opened(f"{name}/gz", zlib.decompressobj(wbits=31).decompress(content))
        elif content[:4] == b"PK\x03\x04":
            yield from _of_zip(name, content)
        elif content[257:262] == b"ustar":
            yield from _of_tar(name, content)


def _of_zip(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        for member in packed.infolist():
            yield from opened(f"{name}/{member.filename}", packed.read(member))


def _of_tar(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        for entry in tar:
            yield f"{name}/names", entry.name.encode()
            file = tar.extractfile(entry)
            if file is not None:
                yield from opened(f"{name}/{entry.name}", file.read())


def _forms(text: str) -> Iterator[bytes]:
    """As it is, as an address holds it, in UTF-16, and in base64 at each of the three places where it can begin."""
    yield text.encode()
    yield quote(text, safe="").encode()
    yield text.encode("utf-16-le")
    for before in range(3):
        # The first and last characters also tell of what stands beside it.
        whole = b64encode(b"\0" * before + text.encode())
        yield whole[4 if before else 0 : -4]
