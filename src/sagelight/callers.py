"""Who may ask a server on this machine's own address: its programs, and pages that come from it; no page of anybody else.

Any web page can make its reader's browser ask 127.0.0.1: as a stranger, which Origin says, or under a name of the page's
own that suddenly points there (DNS rebinding), which Host says.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

LOCAL = "localhost"


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reached from this machine alone."""
    try:
        return host == LOCAL or ip_address(host).is_loopback
    except ValueError:
        return False


def is_stranger(host: str, origin: str, names: Iterable[str] = ()) -> bool:
    """Whether a request comes from a page of somebody else's.

    Args:
        host, origin: the headers of these names; empty where there is none, as programs send no Origin.
        names: under which it may be asked besides localhost and numbers, which nobody can let point elsewhere.
    """
    known = {name.lower() for name in names}
    asked, page = _name(host), _name(origin.rpartition("://")[2])
    named = asked == "" or asked in known or _is_local(asked) or _is_number(asked)
    own = origin.rpartition("://")[2].lower() == host.lower()
    shown = origin == "" or page in known or own or _is_local(page) or is_loopback(page)
    return not (named and shown)


def _name(authority: str) -> str:
    """A host without its port and brackets, in lower case."""
    name, colon, port = authority.lower().rpartition(":")
    name = name if colon and (port.isdigit() or port == "") else authority.lower()
    return name.removeprefix("[").removesuffix("]").removesuffix(".")


def _is_local(name: str) -> bool:
    return name == LOCAL or name.endswith(f".{LOCAL}")


def _is_number(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
