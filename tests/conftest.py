"""What holds for every test: no network beyond this machine, one thread, no downloads."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

# Before torch or a tokenizer is imported: two busy threads on two cores are slower than one.
for _name, _value in {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
}.items():
    os.environ.setdefault(_name, _value)

LOCAL = ("127.", "localhost", "::1", "0.0.0.0")


class NetworkBlocked(RuntimeError):
    """A test wanted to leave this machine."""


def _check(address: Any) -> None:
    host = address[0] if isinstance(address, tuple) else "localhost"
    if host is not None and not str(host).startswith(LOCAL):
        raise NetworkBlocked(f"A test tried to reach {host}; tests run without a network.")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Only 127.0.0.1 and sockets between processes can be reached, so that servers can be tested."""
    connect, connect_ex, resolve = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def checked_connect(self: socket.socket, address: Any) -> None:
        _check(address)
        connect(self, address)

    def checked_connect_ex(self: socket.socket, address: Any) -> int:
        _check(address)
        return connect_ex(self, address)

    def checked_resolve(host: Any, *arguments: Any, **options: Any) -> Any:
        _check((host,))
        return resolve(host, *arguments, **options)

    monkeypatch.setattr(socket.socket, "connect", checked_connect)
    monkeypatch.setattr(socket.socket, "connect_ex", checked_connect_ex)
    monkeypatch.setattr(socket, "getaddrinfo", checked_resolve)
    yield
