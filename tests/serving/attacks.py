"""Hostile requests, by family, from a seed: what a server must refuse in words, and go on."""

from __future__ import annotations

import base64
import json
import pickle
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

from bundles import photo

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
Random = random.Random


@dataclass(frozen=True)
class Attack:
    """Bytes to send, and how.

    Attributes:
        stall: keep the connection open and send nothing more.
        drip: after `sent`, a piece to send again and again.
        reset: break the connection off instead of waiting for an answer.
        mute: HTTP gives no answer here, or the answer has no body; a closed connection will do.
        whole: the photo may be whole after all, and be labelled.
    """

    sent: bytes
    stall: bool = False
    drip: bytes = b""
    reset: bool = False
    mute: bool = False
    whole: bool = False


def post(
    body: bytes,
    kind: str = "image/jpeg",
    *fields: str,
    path: str = "/invocations",
    length: str | None = None,
) -> bytes:
    """A POST request as bytes; `length` replaces the true Content-Length, and may be nonsense."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Type: {kind}", *fields]
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def encoded(rng: Random, kind: str | None = None) -> bytes:
    """A good photo."""
    file = BytesIO()
    width, height = rng.randint(20, 90), rng.randint(20, 90)
    picture = photo(rng.choice(["red", "green", "blue"]), width, height, rng.randrange(9))
    picture.save(file, kind or rng.choice(FORMATS))
    return file.getvalue()


def junk(rng: Random, most: int = 3000) -> bytes:
    return rng.randbytes(rng.randint(1, most))


def image_kind(rng: Random) -> str:
    return rng.choice(["image/jpeg", "image/png", "image/*", "application/octet-stream"])


def truncated(rng: Random) -> Attack:
    # A TIFF or GIF is whole without its last bytes, so the cut is in the first two thirds.
    body = encoded(rng)
    return Attack(post(body[: int(len(body) * rng.uniform(0.01, 0.66))], image_kind(rng)))


def changed(rng: Random) -> Attack:
    body = bytearray(encoded(rng))
    for _ in range(rng.randint(1, 40)):
        body[rng.randrange(len(body))] = rng.randrange(256)
    return Attack(post(bytes(body), image_kind(rng)), whole=True)


def polyglot(rng: Random) -> Attack:
    good = encoded(rng)
    heads = [
        b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + b"PK\x03\x04" + junk(rng),
        b"GIF89a/*" + b"*/=1;alert(1);//" + junk(rng),
        b"%PDF-1.7\n" + good,
        b"PK\x03\x04" + junk(rng, 100) + good,
        b"<!doctype html><script>fetch('//a')</script>" + good,
        b"\x89PNG\r\n\x1a\n" + good,
        b"#!/bin/sh\ntouch owned\n" + good,
        b"RIFF\x10\x00\x00\x00WEBPVP8 " + junk(rng),
        b"BM" + junk(rng, 60),
        b"II*\x00\xff\xff\xff\xff" + junk(rng),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n" + good,
        b"<svg xmlns='http://www.w3.org/2000/svg'><image href='http://169.254.169.254/'/></svg>",
    ]
    return Attack(post(rng.choice(heads), image_kind(rng)))


def chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png(width: int, height: int, bits: int, colour: int, *chunks: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IEND", b"")


ZEROS = zlib.compress(bytes(60_000_000), 9)
SCANS = BytesIO()
Image.new("RGB", (800, 800)).save(SCANS, "JPEG", progressive=True)


def bomb(rng: Random) -> Attack:
    side = rng.randint(7_100, 60_000)
    text = zlib.compress(bytes(rng.randint(2, 30) * 10**6), 9)
    jpeg = bytearray(encoded(rng, "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", rng.randint(8_000, 65_500), 65_500)
    gif = bytearray(encoded(rng, "GIF"))
    descriptor = gif.index(b",", 13 + 3 * 2 ** ((gif[10] & 7) + 1))
    for place in (6, descriptor + 5):
        gif[place : place + 4] = struct.pack("<HH", rng.randint(8_000, 65_535), 65_535)
    bmp = bytearray(encoded(rng, "BMP"))
    bmp[18:26] = struct.pack("<ii", rng.randint(8_000, 2**31 - 1), rng.randint(8_000, 2**31 - 1))
    scans = SCANS.getvalue()
    last = scans.rindex(b"\xff\xda")
    image = chunk(b"IDAT", ZEROS)
    bodies = [
        png(side, side, 8, 2, image),
        png(side, side, 1, 0, image),
        png(4_600, 4_600, 16, 0, image),
        png(6_000, 6_000, 8, 6, image),
        png(40, 40, 8, 2, chunk(b"zTXt", b"a\0\0" + text)),
        png(40, 40, 8, 2, chunk(b"iCCP", b"a\0\0" + text)),
        bytes(jpeg),
        bytes(gif),
        bytes(bmp),
        scans[:last] + rng.randint(101, 20_000) * scans[last:-2] + b"\xff\xd9",
        b"P6 60000 60000 255\n" + junk(rng),
        b"P3 9 9 255\n" + b"9" * 100_000,
    ]
    return Attack(post(rng.choice(bodies), image_kind(rng)))


def wrong_type(rng: Random) -> Attack:
    kinds = ["text/plain", "application/xml", "multipart/form-data; boundary=a", "video/mp4"]
    kinds += ["application/x-www-form-urlencoded", "x", "image", "*/*", "a" * 3_000, "\xff\xfe"]
    return Attack(post(encoded(rng), rng.choice(kinds)))


def pickled(rng: Random) -> Attack:
    """Bytes that run a command in whoever unpickles them, bare, in .npy, in a zip as torch writes."""

    class Command:
        def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
            return eval, ("__import__('os').system('touch owned')",)

    bare = pickle.dumps(Command(), protocol=rng.randint(0, 5))
    array = BytesIO()
    np.save(array, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    body = rng.choice([bare, array.getvalue(), array.getvalue()[:128] + bare, b"PK\x03\x04" + bare])
    kinds = ["application/x-npy", "application/x-pickle", "application/x-numpy", "image/jpeg"]
    return Attack(post(body, rng.choice([*kinds, "application/json"])))


def bad_json(rng: Random) -> Attack:
    depth = rng.randint(10, 100_000)
    text = base64.b64encode(junk(rng)).decode()
    bodies: list[bytes | str] = [
        '{"image": NaN}',
        "NaN",
        '{"image": -Infinity, "a": Infinity}',
        "[" * depth + "]" * depth,
        '{"image":' * depth,
        '{"a":' * 400 + "1" + "}" * 400,
        "9" * depth,
        "-1e" + "9" * 300,
        '{"image": "' + text,
        json.dumps({"image": text}),
        json.dumps({"image": "!" + text}),
        json.dumps({"image": [text]}),
        json.dumps({"image": text, "url": "http://a"}),
        json.dumps({"instances": [{"image": text}] * rng.randint(1, 200)}),
        json.dumps({"instances": {"image": text}}),
        json.dumps({"instances": [[[]]] * 40}),
        json.dumps({"__class__": "os.system", "args": ["id"]}),
        json.dumps([1, 2, 3]),
        '{"image": "\\ud800\\udfff\\u0000"}',
        b'{"image": "' + junk(rng) + b'"}',
        json.dumps({"image": text}).encode("utf-16"),
        b"\xef\xbb\xbf{}",
        b"\x00" * rng.randint(1, 5000),
        "[" + "{}," * rng.randint(1_000, 500_000) + "{}]",
        "true",
        " " * depth,
    ]
    body = rng.choice(bodies)
    return Attack(post(body if isinstance(body, bytes) else body.encode(), "application/json"))


def forged_url(rng: Random) -> Attack:
    hosts = ["169.254.169.254/latest/meta-data/", "127.0.0.1:22/", "[::1]/", "0x7f000001/"]
    hosts += ["2130706433/", "[64:ff9b::7f00:1]/", "localhost/", "metadata.google.internal/"]
    url = rng.choice(["http://", "https://", "file://", "gopher://", "ftp://", "//", ""])
    body = json.dumps({"url": url + rng.choice(hosts)})
    return Attack(post(body.encode(), "application/json"))


def path_trick(rng: Random) -> Attack:
    steps = ["..", "%2e%2e", "..%2f", "....//", "%c0%ae", ".%00", "\\..", "//"]
    paths = ["/" + "/".join(rng.choices(steps, k=rng.randint(1, 12))) + "/etc/passwd"]
    paths += ["/invocations/", "/ping/../metrics", "/" + "a" * 4_000, "/?path=/etc/passwd/.."[1:]]
    paths += ["/.git/config", "/models/bundle.json", "//evil.example/", "/explain/../../x", "/%00"]
    path = rng.choice(paths)
    line = f"{rng.choice(['GET', 'POST'])} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
    return Attack(line.encode())


def odd_method(rng: Random) -> Attack:
    method = rng.choice(
        ["TRACE", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "A" * 900, "get"]
    )
    path = rng.choice(["/invocations", "/ping", "/metrics", "/"])
    return Attack(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())


def bad_accept(rng: Random) -> Attack:
    accept = rng.choice(["image/png", "text/html", "application/json;q=0", "x", "a/b," * 500, ";"])
    return Attack(post(encoded(rng), "image/jpeg", f"Accept: {accept}"))


def huge_head(rng: Random) -> Attack:
    size = rng.randint(17_000, 300_000)
    heads = [
        b"A: " + b"a" * size,
        b"\r\n".join(b"A%d: b" % number for number in range(rng.randint(200, 9_000))),
        b"Cookie: " + b"a=b;" * (size // 4),
        b"a" * size + b": b",
    ]
    line = rng.choice([b"GET /ping", b"GET /" + b"a" * size, b"GET /ping?" + b"a" * size])
    head = rng.choice(heads)
    return Attack(line + b" HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n\r\n", mute=True)


def bad_head(rng: Random) -> Attack:
    fields = [b"A\x00: b", b"A : b", b": b", b"A", b" folded", b"A: b\x00c", b"A: b\x7f\x01"]
    fields += [b"Host: there", b"\xff: a", b"A\tB: c", b"(A): b"]
    lengths = [b"-1", b"+5", b"0x5", b"5, 6", b"5e1", b"five", b"9" * 30, b"1 2", b"", b"\xb2"]
    fields += [b"Content-Length: " + each for each in lengths]
    fields += [b"Content-Length: 5\r\nContent-Length: 6"]
    line = rng.choice([b"POST /invocations HTTP/1.1", b"POST /invocations HTTP/1.0"])
    return Attack(
        line + b"\r\nHost: localhost\r\n" + rng.choice(fields) + b"\r\n\r\n" + junk(rng, 9)
    )


def smuggled(rng: Random) -> Attack:
    inner = b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n"
    coding = rng.choice(
        [
            "chunked",
            "Chunked",
            "chunked, chunked",
            "identity",
            "gzip, chunked",
            "xchunked",
            "\tchunked",
        ]
    )
    body = rng.choice([b"0\r\n\r\n" + inner, b"5\r\nhello\r\n0\r\n\r\n" + inner, b"zz\r\n" + inner])
    fields = rng.choice(
        [f"Transfer-Encoding: {coding}", f"Transfer-Encoding:{coding}\r\nTransfer-Encoding: x"]
    )
    length = rng.choice([None, "4", str(len(body) + 5), "0"])
    return Attack(post(body, "image/jpeg", fields, length=length))


def garbage(rng: Random) -> Attack:
    lines = [
        junk(rng) + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + junk(rng) + b"\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"*1\r\n$4\r\nPING\r\n\r\n",
        b"GET /ping HTTP/%d.%d\r\nHost: localhost\r\n\r\n" % (rng.randint(2, 9), rng.randint(0, 9)),
        b"GET\r\n\r\n",
        b"GET  /ping  HTTP/1.1\r\n\r\n",
        b"\r\n\r\n\r\n\r\nX\r\n\r\n",
        b"POST /invocations\r\n\r\n",
        bytes(rng.randint(1, 70_000)) + b"\r\n\r\n",
    ]
    return Attack(rng.choice(lines), mute=True)


def half(rng: Random) -> Attack:
    """The sender says that it has finished, in the middle of a request."""
    sent = post(encoded(rng))
    return Attack(sent[: rng.randint(1, len(sent) - 1)])


def broken_off(rng: Random) -> Attack:
    sent = post(encoded(rng))
    return Attack(sent[: rng.randint(1, len(sent))], reset=True, mute=True)


def slow(rng: Random) -> Attack:
    sent = post(encoded(rng), "image/jpeg")
    head = sent.index(b"\r\n\r\n")
    cut = rng.choice([rng.randint(1, head), rng.randint(head + 4, len(sent) - 2)])
    drip = b"a" if cut > head else b""
    return Attack(sent[:cut], stall=True, drip=rng.choice([b"", drip]))


def endless(rng: Random) -> Attack:
    """A length beyond the limit, or chunks that go on beyond it."""
    if rng.random() < 0.8:
        return Attack(post(b"", length=str(rng.randint(6_291_457, 10**18))) + junk(rng), stall=True)
    piece = b"20000\r\n" + bytes(0x20000) + b"\r\n"
    head = b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
    return Attack(head + b"Transfer-Encoding: chunked\r\n\r\n" + 49 * piece, stall=True)


FAMILIES: dict[str, Callable[[Random], Attack]] = {
    "truncated photos": truncated,
    "photos with changed bytes": changed,
    "polyglots": polyglot,
    "bombs": bomb,
    "wrong content types": wrong_type,
    "pickles, .npy with pickles": pickled,
    "JSON: NaN, deep, wide, shapeless": bad_json,
    "URLs of inner addresses": forged_url,
    "path tricks": path_trick,
    "odd methods": odd_method,
    "unacceptable Accept": bad_accept,
    "huge headers": huge_head,
    "malformed headers": bad_head,
    "Content-Length against chunks": smuggled,
    "garbage, other protocols": garbage,
    "requests cut in half": half,
    "connections broken off": broken_off,
    "slow headers and bodies": slow,
    "bodies beyond the limit": endless,
}
# Costs of a request in seconds differ by a factor of a thousand; the slow ones are fewer.
RARE = {"bombs": 0.5, "slow headers and bodies": 0.3, "bodies beyond the limit": 0.3}


def attacks(count: int, seed: int) -> list[tuple[str, int]]:
    """`count` requests as (family, seed of its own), shuffled; each family has its share."""
    rng = Random(seed)
    names = list(FAMILIES)
    weights = [RARE.get(name, 1.0) for name in names]
    shares = [int(count * weight / sum(weights)) for weight in weights]
    picked = [name for name, share in zip(names, shares, strict=True) for _ in range(share)]
    picked += rng.choices(names, weights, k=count - len(picked))
    rng.shuffle(picked)
    return [(name, rng.randrange(2**32)) for name in picked]


def attack(family: str, seed: int) -> Attack:
    return FAMILIES[family](Random(seed))
