"""Photos by URL, from hosts that the server's owner has named, and from public addresses alone.

The name is resolved once; every address it has must be public; the connection goes to the address that was
checked. No redirect is followed, and size and total time are limited. So no request reaches what only the
server can reach, such as a cloud's metadata at 169.254.169.254 (server-side request forgery).
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

import h11

from sagelight.errors import ConfigError
from sagelight.serving.server.refusal import Refusal

PORTS = {"http": 80, "https": 443}
CHUNK = 65_536
HOST = re.compile(r"[a-z0-9._:-]+")
# Addresses that Python calls global, and behind which another address hides: NAT64 (RFC 6052, RFC 8215),
# 6to4 (RFC 3056), Teredo (RFC 4380), and IPv4 in IPv6.
DISGUISES = [
    ip_network(text)
    for text in (
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2002::/16",
        "2001::/32",
        "::ffff:0:0/96",
        "::/96",
    )
]


@dataclass(frozen=True)
class Address:
    """Where a URL points: what it names, and how that is reached."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == PORTS[self.scheme] else f"{name}:{self.port}"


class Fetcher:
    """Fetches photos from `hosts`, each within `seconds`."""

    def __init__(self, hosts: Sequence[str], seconds: float) -> None:
        """
        Args:
            hosts: names, or name:port for another port than 80 and 443.

        Raises:
            ConfigError: one of them is no name of a host.
        """
        self._hosts = {_host(text) for text in hosts}
        self._seconds = seconds

    async def photo(self, url: str, most: int) -> bytes:
        """What a URL holds, at most `most` bytes.

        Raises:
            Refusal: URLs are off or this one is malformed (400), its host may not be asked (403), or it
                did not give the photo (422).
        """
        address = self._allowed(url)
        try:
            async with asyncio.timeout(self._seconds):
                reachable = await _checked_address(address)
                return await _get(address, reachable, most)
        except TimeoutError:
            raise _failed(address, f"did not answer within {self._seconds:g} seconds") from None
        except (OSError, h11.RemoteProtocolError, h11.LocalProtocolError):
            raise _failed(address, "could not be reached, or broke off") from None

    def _allowed(self, url: str) -> Address:
        if not self._hosts:
            raise Refusal(
                HTTPStatus.BAD_REQUEST,
                "photos by URL are off. Send the bytes, or start the server with "
                "url_hosts=[HOST,...].",
            )
        address = _parsed(url)
        if address.authority not in self._hosts:
            raise Refusal(
                HTTPStatus.FORBIDDEN, f"photos are not fetched from {address.authority[:100]}."
            )
        return address


def _host(text: str) -> str:
    try:
        address = _parsed(f"https://{text.lower()}/")
    except Refusal:
        address = None
    if address is None or address.authority != text.lower():
        raise ConfigError(f"url_hosts: {text} is no name of a host, as photos.example.com is.")
    return address.authority


def _parsed(url: str) -> Address:
    """The parts of a URL that is nothing but scheme, host, port, path and query."""
    plain = url.isascii() and url.isprintable() and not set(url) & set(' \\"<>^`{|}')
    try:
        parts = urlsplit(url) if plain else SplitResult("", "", "", "", "")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        parts, host, port = SplitResult("", "", "", "", ""), "", None
    if (
        parts.scheme not in PORTS
        or not HOST.fullmatch(host)
        or "@" in parts.netloc
        or "%" in parts.netloc
        or port == 0
    ):
        raise Refusal(
            HTTPStatus.BAD_REQUEST, "the URL must be https://HOST/PATH, without a user's name."
        )
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Address(parts.scheme, host, port or PORTS[parts.scheme], target)


def is_public(text: str) -> bool:
    """Whether an IP address is one that anybody on the internet reaches, and hides no other."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address) and any(address in network for network in DISGUISES):
        return False
    return address.is_global and not address.is_multicast


async def _checked_address(address: Address) -> str:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(address.host, address.port, type=1)
    addresses = [str(entry[4][0]) for entry in found]
    if not addresses or not all(is_public(each) for each in addresses):
        raise Refusal(HTTPStatus.FORBIDDEN, f"{address.authority} is not at a public address.")
    return addresses[0]


async def _get(address: Address, reachable: str, most: int) -> bytes:
    secure = address.scheme == "https"
    reader, writer = await asyncio.open_connection(
        reachable,
        address.port,
        ssl=ssl.create_default_context() if secure else None,
        server_hostname=address.host if secure else None,
    )
    try:
        connection = h11.Connection(h11.CLIENT)
        request = h11.Request(method="GET", target=address.target, headers=_headers(address))
        for event in (request, h11.EndOfMessage()):
            writer.write(connection.send(event) or b"")
        return await answered_body(connection, reader, address, most)
    finally:
        writer.transport.abort()


def _headers(address: Address) -> list[tuple[str, str]]:
    return [
        ("Host", address.authority),
        ("Accept", "image/*"),
        ("Accept-Encoding", "identity"),
        ("User-Agent", "sagelight"),
        ("Connection", "close"),
    ]


async def answered_body(
    connection: h11.Connection, reader: asyncio.StreamReader, address: Address, most: int
) -> bytes:
    """The body of the one answer to a request that was sent, at most `most` bytes.

    Raises:
        Refusal: another status than 200, too many bytes, or an end before the end (422).
        RemoteProtocolError: no HTTP/1.1.
    """
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(CHUNK))
        elif isinstance(event, h11.Response) and event.status_code != HTTPStatus.OK:
            raise _failed(address, f"answered {event.status_code}; redirects are not followed")
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > most:
                raise _failed(address, f"sends more than the {most:,} bytes that are left")
        elif isinstance(event, h11.EndOfMessage):
            return bytes(body)
        elif isinstance(event, h11.ConnectionClosed):
            raise _failed(address, "broke off")


def _failed(address: Address, what: str) -> Refusal:
    return Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, f"{address.authority} {what}.")
