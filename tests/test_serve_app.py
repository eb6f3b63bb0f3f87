"""The server as it is reached: names and pages of other sites, sizes and paces, keys and limits, start and end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from starlette.testclient import TestClient

from deepmmsearch.cli.keys import command as keys
from deepmmsearch.compose.serving import CallerLimits, ServedModelSettings, ServeRecipe
from deepmmsearch.errors import UserError
from deepmmsearch.serve import border
from deepmmsearch.serve.app import make_app
from deepmmsearch.serve.callers import LOCAL, VARIABLE, Caller, Callers, add_key, list_keys, read_callers
from deepmmsearch.serve.house import House
from deepmmsearch.serve.refusals import NoKey, Spent
from endpoints import endpoint, said
from serving import house

FREE = CallerLimits(concurrent=None, per_minute=None)


def recipe(folder: Path, **settings: Any) -> ServeRecipe:
    model = ServedModelSettings.model_validate({"policy": {"kind": "chat", "base_url": "http://127.0.0.1:9/v1"}})
    return ServeRecipe(models={"m": model}, store=folder / "store", **settings)


def client(folder: Path, **settings: Any) -> TestClient:
    return TestClient(make_app(House(recipe(folder, **settings), {})), base_url="http://127.0.0.1:8400")


# The border


def test_the_server_answers_to_its_own_names(tmp_path: Path) -> None:
    with client(tmp_path, allow_hosts=("search.lan",)) as reached:
        assert reached.get("/health").json() == {"status": "ok", "playing": 0, "waiting": 0}
        for host in ("127.0.0.1:8400", "localhost", "[::1]:8400", "SEARCH.LAN", "search.lan."):
            assert reached.get("/health", headers={"host": host}).status_code == 200, host
        for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8400", "[::2]"):
            reply = reached.get("/health", headers={"host": host})
            assert reply.status_code == 403 and "--allow-host" in reply.json()["error"]["message"], host


def test_pages_of_other_sites_are_refused(tmp_path: Path) -> None:
    with client(tmp_path, origins=("https://mine.example",)) as reached:
        for origin in ("http://127.0.0.1:8400", "https://mine.example"):
            assert reached.get("/health", headers={"origin": origin}).status_code == 200, origin
        for origin in ("https://evil.example", "null", "http://127.0.0.1:9999", "https://mine.example.evil.example"):
            assert reached.get("/health", headers={"origin": origin}).status_code == 403, origin


def test_replies_tell_browsers_to_be_careful(tmp_path: Path) -> None:
    with client(tmp_path) as reached:
        for path in ("/health", "/nothing"):
            headers = reached.get(path).headers
            assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"


async def test_bodies_are_bounded_in_size_and_pace(monkeypatch: Any) -> None:
    from deepmmsearch.hosts import Hosts

    read: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            read.append(message["body"])
            if not message.get("more_body"):
                break
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async def ask(chunks: list[bytes], told: str | None = None, stall: bool = False) -> int:
        sent: list[Any] = []

        async def receive() -> Any:
            if not chunks:
                import asyncio

                await asyncio.sleep(10)
            body = chunks.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(chunks) or stall}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"host", b"localhost")] + ([(b"content-length", told.encode())] if told is not None else [])
        scope = {"type": "http", "headers": headers, "server": ("127.0.0.1", 1)}
        await border.Border(app, Hosts(), 10)(scope, receive, send)
        return int(sent[0]["status"])

    monkeypatch.setattr(border, "SECONDS", 0.05)
    assert await ask([b"12345", b"67890"]) == 200 and b"".join(read) == b"1234567890"
    assert await ask([b"1"], told="11") == 413
    assert await ask([b"1"], told="-1") == 413
    # what was told is not what comes
    assert await ask([b"12345", b"678901"], told="5") == 413
    assert await ask([b"1"], stall=True) == 408


def test_figures_hold_no_words(tmp_path: Path, capsys: Any) -> None:
    with TestClient(make_app(house(tmp_path)), base_url="http://127.0.0.1:8400") as reached:
        body = {"model": "m", "messages": [{"role": "user", "content": "A private question?"}]}
        assert reached.post("/v1/chat/completions", json=body).status_code == 200
        told = reached.get("/metrics").text
    assert 'deepmmsearch_questions_total{model="m",stop="answer"} 1.0' in told
    assert 'deepmmsearch_present{state="playing"} 0.0' in told
    line = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert (line["door"], line["model"], line["stop"], line["turns"]) == ("openai", "m", "answer", 3)
    assert "private" not in told and "private" not in json.dumps(line) and "Orm" not in json.dumps(line)


def test_questions_stand_in_the_log_where_that_is_asked_for(tmp_path: Path, capsys: Any) -> None:
    with TestClient(make_app(house(tmp_path, log="questions")), base_url="http://127.0.0.1:8400") as reached:
        body = {"model": "m", "messages": [{"role": "user", "content": "A private question?"}]}
        reached.post("/v1/chat/completions", json=body)
    assert json.loads(capsys.readouterr().err.splitlines()[-1])["question"] == "A private question?"


# Keys


def test_without_keys_everybody_here_is_one() -> None:
    assert Callers({}).find(None).name == LOCAL and Callers({}).find("anything").limits == FREE


def test_a_key_is_found_by_its_hash_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key = add_key(path, "anna", {"per_minute": 2})
    assert key not in path.read_text() and path.stat().st_mode & 0o777 == 0o600
    found = Callers(read_callers(path, CallerLimits(), {VARIABLE: "ben:0123456789abcdef"}))
    assert found.find(key).name == "anna" and found.find(key).limits.per_minute == 2
    assert found.find("0123456789abcdef").name == "ben"
    for wrong in (None, "", key[:-1], key.upper(), "local"):
        with pytest.raises(NoKey):
            found.find(wrong)
    assert [row["name"] for row in list_keys(path)] == ["anna"] and "sha256" not in list_keys(path)[0]


@pytest.mark.parametrize("name", ["", "local", "../x", "a/b", "Anna", "a" * 33, "con.", "con", "com1", "ä"])
def test_a_key_has_a_plain_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot be the name"):
        add_key(tmp_path / "keys.json", name)
    assert not (tmp_path / "keys.json").exists()


@pytest.mark.parametrize("text", ["", "[]", '{"keys": 3}', '{"keys": [{"name": "../x", "sha256": "0"}]}'])
def test_a_file_that_holds_no_keys_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys.json").write_text(text)
    with pytest.raises(UserError, match=r"keys\.json"):
        read_callers(tmp_path / "keys.json", CallerLimits(), {})
    with pytest.raises(UserError, match="keys add"):
        read_callers(tmp_path / "nothing.json", CallerLimits(), {})


def test_a_variable_that_holds_no_pairs_is_told_without_its_value() -> None:
    with pytest.raises(UserError, match=VARIABLE) as caught:
        read_callers(None, CallerLimits(), {VARIABLE: "secretsecretsecret"})
    assert "secretsecret" not in str(caught.value)


def test_a_caller_has_a_pace_and_a_purse() -> None:
    now, used = 0.0, 0.0
    found = Callers({"x": Caller("anna", FREE)}, lambda owner: used, lambda: now)
    caller = Caller("anna", CallerLimits(per_minute=2, money=1.0))
    found.admit(caller)
    found.admit(caller)
    with pytest.raises(Spent, match="2 questions in a minute") as caught:
        found.admit(caller)
    assert caught.value.wait == 60
    now = 60.0
    found.admit(caller)
    used = 1.0
    with pytest.raises(Spent, match=r"\$1.00 of \$1.00"):
        found.admit(caller)


def test_keys_on_the_command_line(tmp_path: Path) -> None:
    place = ["--file", str(tmp_path / "keys.json")]
    made = CliRunner().invoke(keys, ["add", "anna", "--money", "2", *place])
    assert made.exit_code == 0 and made.stdout.startswith("dmms-") and len(made.stdout.splitlines()) == 1
    assert isinstance(CliRunner().invoke(keys, ["add", "anna", *place]).exception, UserError)
    assert json.loads(CliRunner().invoke(keys, ["list", "--json", *place]).stdout)["limits"] == {"money": 2.0}
    assert "anna" in CliRunner().invoke(keys, ["list", *place]).stdout
    assert CliRunner().invoke(keys, ["remove", "anna", *place]).exit_code == 0
    assert isinstance(CliRunner().invoke(keys, ["remove", "anna", *place]).exception, UserError)


# The process


@contextmanager
def serving(folder: Path, settings: dict[str, Any], *options: str, **environment: str) -> Iterator[tuple[Any, str]]:
    path = folder / "serve.yaml"
    path.write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-P", "-m", "deepmmsearch", "serve", str(path), "--port", "0", *options]
    started = subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        assert started.stdout is not None
        yield started, started.stdout.readline().split(" ")[0].rstrip("/")
    finally:
        started.kill()
        started.wait()


def test_it_starts_answers_and_ends_in_order(tmp_path: Path) -> None:
    import urllib.request

    with endpoint(lambda _: said("<answer>x</answer>")) as model:
        policy = {"kind": "chat", "base_url": model.url, "model": "vlm"}
        with serving(tmp_path, {"models": {"m": {"policy": policy}}, "store": str(tmp_path / "s")}) as (process, url):
            with urllib.request.urlopen(f"{url}/health", timeout=10) as reply:
                assert json.load(reply)["status"] == "ok"
            process.send_signal(signal.SIGTERM)
            process.wait(20)
            assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--host", "0.0.0.0"], "Make a key"),
        (["--host", "203.0.113.7"], "Cannot listen on 203.0.113.7"),
        (["--allow-host", "a/b"], "not the name of a host"),
    ],
)
def test_it_does_not_start_where_it_should_not(tmp_path: Path, options: list[str], told: str) -> None:
    policy = {"kind": "chat", "base_url": "http://127.0.0.1:9/v1", "model": "vlm"}
    with serving(tmp_path, {"models": {"m": {"policy": policy}}}, *options) as (process, url):
        assert url == "" and process.wait(20) == 2
        said_ = process.stderr.read()
        assert told in said_ and "Traceback" not in said_


def test_a_connection_that_says_nothing_is_hung_up_on(tmp_path: Path) -> None:
    from deepmmsearch.serve.running import HEAD_SECONDS

    assert HEAD_SECONDS <= 30
    with endpoint(lambda _: said("x")) as model:
        policy = {"kind": "chat", "base_url": model.url, "model": "vlm"}
        patient = "import deepmmsearch.serve.running as r; r.HEAD_SECONDS = r.SECONDS = 0.5"
        code = f"{patient}; from deepmmsearch.cli import main; main()"
        (tmp_path / "s.yaml").write_text(yaml.safe_dump({"models": {"m": {"policy": policy}}, "store": "s"}))
        command = [sys.executable, "-P", "-c", code, "serve", "s.yaml", "--port", "0"]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline().split("/")[2].rpartition(":")[2])
            asked = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
            for begun in (b"", b"GET /health HT", b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: "):
                with socket.create_connection(("127.0.0.1", port), timeout=15) as waits:
                    waits.sendall(begun)
                    assert waits.recv(1000) == b""
                # the same after a whole request
                with socket.create_connection(("127.0.0.1", port), timeout=15) as again:
                    again.sendall(asked + begun)
                    with contextlib.suppress(ConnectionResetError):
                        assert b"".join(iter(lambda: again.recv(1000), b"")).count(b"HTTP/1.1 200") == 1
            # and for who takes nothing of what it asks for
            with socket.socket() as deaf:
                deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                deaf.connect(("127.0.0.1", port))
                deaf.settimeout(15)
                with pytest.raises(ConnectionError):
                    while True:
                        deaf.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)
        finally:
            process.kill()
            process.wait()
