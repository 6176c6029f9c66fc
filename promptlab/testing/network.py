"""A guard against the network."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

LOOK_UP = ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getnameinfo", "getfqdn")


@contextmanager
def no_network(*, loopback: bool = False) -> Iterator[None]:
    """While it lasts, connecting, sending to or looking up any address is an AssertionError that names it.

    `loopback=True` leaves this machine's own addresses reachable. As a fixture: `with no_network(): yield`.
    """

    def guarded(reach: Callable[..., Any], address_of: Callable[..., Any]) -> Callable[..., Any]:
        def checked(*args: Any, **kwargs: Any) -> Any:
            address = address_of(*args, **kwargs)
            if not (loopback and _is_local(address)):
                raise AssertionError(f"no_network: something tried to reach {address!r}.")
            return reach(*args, **kwargs)

        return checked

    with ExitStack() as patches:
        for name in ("connect", "connect_ex", "sendto"):  # the address is their last argument
            method = guarded(getattr(socket.socket, name), lambda *args: args[-1])
            patches.enter_context(patch.object(socket.socket, name, method))
        for name in LOOK_UP:
            lookup = guarded(getattr(socket, name), _looked_up)
            patches.enter_context(patch.object(socket, name, lookup))
        yield


def _looked_up(host: Any = "", *rest: Any, **_: Any) -> tuple[Any, ...]:
    return host if isinstance(host, tuple) else (host, *rest)  # getnameinfo takes an address


def _is_local(address: Any) -> bool:
    if isinstance(address, str | bytes):  # a Unix socket's path
        return True
    host = address[0]
    if host in ("localhost", "", None):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
