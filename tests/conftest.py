"""What holds for every test: no network beyond this machine, one thread, no downloads."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from hypothesis import HealthCheck, settings

# Before torch or a tokenizer is imported: two busy threads on two cores are slower than one.
for _name, _value in {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
}.items():
    os.environ.setdefault(_name, _value)

# Nor do the defaults of whoever runs the tests count.
for _name in [name for name in os.environ if name.startswith("DEEPMMSEARCH_")]:
    del os.environ[_name]
os.environ["DEEPMMSEARCH_CONFIG"] = os.devnull

# no example is judged by how long it takes: other programs run on the machine, too
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

# before anything imports it: its asserts then say what they found
pytest.register_assert_rewrite("deepmmsearch.testing.contract")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--part", default="1/1", metavar="N/M", help="Run the Nth of M parts of the tests.")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests belong to parts by their names, so that a part is the same on every machine."""
    number, _, parts = config.getoption("--part").partition("/")
    left_out = [item for item in items if crc32(item.nodeid.encode()) % int(parts) != int(number) - 1]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


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


@pytest.fixture(autouse=True)
def room(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a recipe's check says depends on no machine's disk."""
    free = shutil._ntuple_diskusage(total=10**13, used=0, free=10**13)  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, "disk_usage", lambda place: free)


@pytest.fixture(scope="session")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where tests that need a whole world have it kept: which is there already is not made again, in none of the
    processes of this run. Making one takes 7 s."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "worlds"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of a server of S3's protocol on this machine: moto's, in a process of its own."""
    pytest.importorskip("moto.server", reason="moto is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            for _ in range(600):
                assert server.poll() is None, "moto's server has ended"
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def new_bucket(server: str, environment: pytest.MonkeyPatch) -> str:
    """The address of a new bucket; its server and keys are in the environment then."""
    values = {
        "ACCESS_KEY_ID": "test",
        "SECRET_ACCESS_KEY": "test",
        "REGION": "us-east-1",
        "DEFAULT_REGION": "us-east-1",
    }
    for name, value in {**values, "ENDPOINT_URL": server, "ALLOW_HTTP": "true"}.items():
        environment.setenv(f"AWS_{name}", value)
    bucket = f"b{uuid.uuid4().hex}"
    urllib.request.urlopen(urllib.request.Request(f"{server}/{bucket}", method="PUT"), timeout=30).close()
    return f"s3://{bucket}"


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    return new_bucket(s3_server, monkeypatch)


Offer = Callable[..., Path]


@pytest.fixture
def offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Offer]:
    """`offer(group, name="module:value", …)` puts a package on the path that offers these, as pip would lay it out, and
    returns the folder that its modules go into; `package` is its name. Its modules are forgotten afterwards."""

    def installed(group: str, *, package: str = "their-package", **named: str) -> Path:
        folder = tmp_path / package
        meta = folder / f"{package.replace('-', '_')}-1.0.dist-info"
        meta.mkdir(parents=True)
        (meta / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"[{group}]", *(f"{name} = {value}" for name, value in named.items())]
        (meta / "entry_points.txt").write_text("\n".join(lines))
        monkeypatch.syspath_prepend(str(folder))
        return folder

    before = set(sys.modules)
    yield installed
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]
