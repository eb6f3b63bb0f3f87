"""The border to the terminal: whatever comes from outside is plain text on it, in every command."""

from __future__ import annotations

import ast
import asyncio
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from rich.table import Table
from rich.text import Text

from deepmmsearch import cli
from deepmmsearch.agent.metering import calling
from deepmmsearch.cli.bars import Bars
from deepmmsearch.console import Console
from deepmmsearch.errors import ToolError
from deepmmsearch.escaping import one_line, plain
from deepmmsearch.progress import Step
from deepmmsearch.prompts import load_prompt
from deepmmsearch.store import TrajectoryStore
from deepmmsearch.streams import PlainStream, echo_json
from deepmmsearch.testing.services import ServiceReply, site
from deepmmsearch.tools.cassette import Cassette
from deepmmsearch.tools.recorded import RecordedTextSearch
from deepmmsearch.tools.recorder import Recorder
from deepmmsearch.types import Answer, Completion, Hit, Malformed, Observation, Question, TextSearch, Trajectory, Turn
from endpoints import endpoint, error, said
from test_imports import MODULES

OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\U000e0000-\U000e007f]"
)
MARK = "Zq7"
# colour, title, link, C1, backspace, DEL, lone carriage return, override, isolate, mark, tag, markup, emoji code
NAME = f"{MARK}\x1b[31m\x1b]0;t\x07\x9b2J\x08\x7f\r\u202e\u2066\u200f\U000e0041[red]:smile:"
HOSTILE = f"{NAME}\x1b]8;;https://evil.test\x1b\\\x85[/red][link=https://evil.test]"
READABLE = [
    "العاصمة هي القاهرة ۝ مرحبا",
    "ירושלים, שָׁלוֹם",
    "می‌خواهم",
    "क्‍ष और ক্‌ষ",
    "👩‍🚀 👨‍👩‍👧‍👦 ❤️ 🇧🇹 👍🏽",
    "e\u0301 Z\u0335 a\u0301\u0323 Việt",
    "東京 葛飾 한국어 ไทย",
    "[not markup] :not_emoji: a\\[b]",
]
WRITES = {"echo", "secho", "echo_via_pager", "progressbar", "confirm", "prompt", "edit", "pause", "clear"}
OWNERS = {"streams", "console"}

Run = Callable[..., tuple[int, str, str]]


def writers(path: Path) -> Iterator[str]:
    """What in a module writes to a terminal by itself."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Call(func=ast.Name(id="print")):
                yield "print"
            case ast.Attribute(value=ast.Name(id="click"), attr=name) if name in WRITES:
                yield f"click.{name}"
            case ast.Attribute(value=ast.Name(id="sys"), attr="stdout" | "stderr" | "__stdout__" | "__stderr__"):
                yield "sys.std..."
            case ast.ImportFrom(module="click" | "click.termui" | "click.utils", names=names):
                yield from (n.name for n in names if n.name in WRITES)
            case ast.ImportFrom(module="rich", names=names):
                yield from (f"rich.{n.name}" for n in names if n.name in ("print", "get_console", "console", "inspect"))
            case ast.ImportFrom(module="rich.console" | "rich.markup" | "rich.ansi"):
                yield node.module or ""
            case ast.Import(names=names):
                yield from (n.name for n in names if n.name in ("rich", "rich.console", "getpass", "curses"))
            case ast.ImportFrom(module="sys", names=names):
                yield from (f"sys.{n.name}" for n in names if "std" in n.name and n.name != "stdin")
            case ast.Call(func=ast.Attribute(value=ast.Name(id="os"), attr="write")):
                yield "os.write"


def test_only_the_border_writes() -> None:
    found = {module: list(writers(path)) for module, path in MODULES.items() if module not in OWNERS}
    # whether it is a terminal decides where Rich puts what is printed above the bars
    # and what a policy's program prints is the answer of its process
    told = {m: w for m, w in found.items() if w and m != "computing"}
    assert told == {"cli.bars": ["sys.std..."]} and found["computing"]
    assert all(list(writers(MODULES[module])) for module in OWNERS)


@pytest.mark.parametrize("text", READABLE)
def test_what_people_write_stays_as_it_is(text: str) -> None:
    out = io.StringIO()
    PlainStream(out).write(text)
    Console(file=out, width=80).print(Text(text))
    assert plain(text) == one_line(text) == text
    assert out.getvalue() == f"{text}{text}\n"


@pytest.mark.parametrize("number", [*range(0x20), *range(0x7F, 0xA0), 0x61C, 0x200F, *range(0x2028, 0x202F), 0x2067])
def test_nothing_is_obeyed(number: int) -> None:
    out, wide = io.StringIO(), Table("a", "b")
    wide.add_row(f"a{chr(number)}b", Text(f"c{chr(number)}", "red"))
    Console(file=out, width=40).print(wide, Text(chr(number)), chr(number))
    stream = PlainStream(out)
    stream.write(f"x{chr(number)}")
    stream.write(chr(number))
    assert not OBEYED.search(out.getvalue()) and len({len(line) for line in out.getvalue().splitlines()[:5]}) == 1


def test_a_sequence_in_pieces_is_not_put_together() -> None:
    out = io.StringIO()
    stream = PlainStream(out)
    for piece in ("a\x1b", "[", "31m", "\x1b\x1b[0m[2J", "\x9b", "2J", "\x1b]0;", "t", "\x07"):
        stream.write(piece)
    assert out.getvalue() == "a[31m[2J2J]0;t"
    assert not hasattr(stream, "buffer")


def test_json_is_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"text": f"{HOSTILE}\n\ud800{''.join(READABLE)}"}
    echo_json(row)
    out = capsys.readouterr().out
    assert re.fullmatch(r"[ -~]+\n", out) and json.loads(out) == row


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """A command as a user gives it; what comes out is looked at."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["deepmmsearch", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        out, err = capsys.readouterr()
        assert not OBEYED.search(out + err), (arguments, out, err)
        assert not re.search(r"\U0001f604|^Error: forged", out + err, re.MULTILINE)
        return code, out, err

    return call


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.effect_noise((64, 48), 80).convert("RGB").save(tmp_path / "ship.png")
    return tmp_path / "ship.png"


def asked() -> Trajectory:
    found = Observation(HOSTILE, hits=(Hit(HOSTILE, f"https://a.test/{HOSTILE}", HOSTILE),), summary_error=HOSTILE)
    turns = (
        Turn(Completion(HOSTILE), Malformed(HOSTILE), Observation(HOSTILE, error=HOSTILE)),
        Turn(Completion(f"<reason>{HOSTILE}</reason>"), TextSearch(HOSTILE), found),
        Turn(Completion(f"<reason>{HOSTILE}</reason>"), Answer(HOSTILE)),
    )
    question = Question(HOSTILE, HOSTILE, (), (HOSTILE,))
    return Trajectory(question, load_prompt("atlas"), turns=turns, policy=HOSTILE, stop="answer")


def test_stored_questions(run: Run, tmp_path: Path) -> None:
    store = TrajectoryStore(tmp_path / "kept")
    about = {"date": HOSTILE, "model": HOSTILE, "endpoint": HOSTILE}
    store.append(asked(), HOSTILE, about)
    store.append(asked().failed(HOSTILE), f"2{HOSTILE}", about)
    for arguments in (["kept"], ["kept", MARK], ["kept", "2"], ["kept", "--json"], ["kept", MARK, "--json"]):
        code, out, _ = run("show", *arguments)
        assert code == 0 and MARK in out, arguments
        if "--json" in arguments:
            assert HOSTILE in json.loads(out.splitlines()[0])["question"]
    code, _, err = run("show", "kept", f"none{HOSTILE}")
    assert code == 2 and MARK in err


def test_questions(run: Run, tmp_path: Path) -> None:
    row = {"id": HOSTILE, "question": HOSTILE, "answers": [HOSTILE], "metadata": {"kind": HOSTILE}, "kind": HOSTILE}
    lines = [row, {**row, "id": "2", "image": f"{HOSTILE}.png"}, {**row, "id": "3", "answers": HOSTILE}, {HOSTILE: 1}]
    name = f"{NAME}\n.jsonl"
    (tmp_path / name).write_text("\n".join(map(json.dumps, lines)) + "\n{")
    for command in ("show", "stats"):
        for more in ([], ["--json"]):
            code, out, _ = run("data", command, name, *more)
            assert code == 0 and MARK in out, (command, more)
    for to in ("store", "sharegpt"):
        _, out, err = run("data", "convert", name, f"{NAME}.{to}", "--to", to)
        assert MARK in out + err
    for arguments in (["data", "show", NAME], ["data", "show", name, "--split", HOSTILE]):
        assert run(*arguments)[0] in (0, 2)
    labelled = {"question": HOSTILE, "answers": ["x"], "answer": HOSTILE, "correct": True, "topic": HOSTILE}
    (tmp_path / "labelled.jsonl").write_text(json.dumps(labelled))
    for more in ([], ["--json"]):
        assert MARK in run("judge", "calibrate", "labelled.jsonl", *more)[1]


def test_an_index(run: Run, tmp_path: Path) -> None:
    pages = tmp_path / "pages"
    pages.mkdir()
    raw = NAME.encode() + b"\xff\nError: forged"
    Path(os.fsdecode(os.fsencode(pages) + b"/" + raw + b".pdf")).write_bytes(b"%PDF-1.7 broken")
    (pages / f"{NAME}.html").write_text(f"<title>{HOSTILE}</title><p>Mount Kula {HOSTILE} is high.</p>")
    (pages / f"{NAME}.md").write_text(f"# {HOSTILE}\n\nMount Kula {HOSTILE} is high.\n")
    code, out, err = run("index", "build", "pages", "--out", NAME)
    assert code == 0 and MARK in err
    for more in ([], ["--json"]):
        code, out, _ = run("index", "search", "Mount Kula", "--index", NAME, *more)
        assert code == 0 and MARK in out
        assert run("index", "stats", "--index", NAME, *more)[0] == 0
    meta = tmp_path / NAME / "meta.json"
    meta.write_text(json.dumps({**json.loads(meta.read_text()), "dense": HOSTILE, HOSTILE: HOSTILE}))
    for arguments in (["stats"], ["search", "x"], ["add", f"{NAME}.none"], ["remove", HOSTILE]):
        assert run("index", *arguments, "--index", NAME)[0] in (0, 1, 2)


def test_recorded_calls(run: Run, tmp_path: Path) -> None:
    class Words:
        name = HOSTILE

        async def search(self, query: str, k: int) -> list[Hit]:
            with calling("text_search", self.name, 0.1):
                if k == 1:
                    raise ToolError(HOSTILE)
                return [Hit(HOSTILE, HOSTILE)]

    async def record() -> None:
        recorder = Recorder(Cassette(tmp_path / NAME))
        for k in (1, 2):
            with suppress(ToolError):
                await RecordedTextSearch(Words(), recorder).search(HOSTILE, k)
        recorder.close()

    asyncio.run(record())
    for arguments in (["stats", NAME], ["stats", NAME, "--json"], ["export", NAME, f"{NAME}.jsonl"]):
        code, out, _ = run("cache", *arguments)
        assert code == 0 and MARK in out
    for arguments in (["prune", NAME, "--provider", "x"], ["prune", NAME, "--tool", HOSTILE]):
        code, _, err = run("cache", *arguments)
        assert code == 2 and MARK in err
    (tmp_path / "bad.jsonl").write_text(json.dumps({"tool": HOSTILE, HOSTILE: HOSTILE}))
    assert run("cache", "import", NAME, "bad.jsonl")[0] == 2


def test_recipes(run: Run, tmp_path: Path) -> None:
    escaped = "".join(f"\\U{ord(c):08x}" for c in HOSTILE)
    (tmp_path / f"{NAME}.yaml").write_text(f'# {plain(HOSTILE)}\nkind: "{escaped}"\n')
    (tmp_path / f"half{NAME}.yaml").write_text('kind: "\\ud800"\n')
    tools = {"kind": "providers", "text": [{"name": HOSTILE, HOSTILE: HOSTILE}]}
    (tmp_path / "tools.yaml").write_text(yaml.safe_dump(tools))
    (tmp_path / "eval.yaml").write_text(
        yaml.safe_dump({"output": NAME, "benchmarks": [{"name": HOSTILE}], "workflows": {HOSTILE: {"kind": HOSTILE}}})
    )
    for recipe in (f"{NAME}.yaml", f"half{NAME}.yaml", "tools.yaml", "eval.yaml"):
        for arguments in (["check", recipe], ["check", recipe, "--json"], ["eval", recipe], ["data", "build", recipe]):
            code, out, err = run(*arguments, f"{NAME}=1")
            assert code == 2 and (MARK in out + err or "is a recipe of kind" in err)
    for arguments in (["recipes", "show", f"{NAME}.yaml"], ["recipes", "copy", f"{NAME}.yaml", f"{NAME}.copy"]):
        code, out, _ = run(*arguments)
        assert code == 0 and MARK in out


def test_own_defaults(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DEEPMMSEARCH_CONFIG", str(tmp_path / f"{NAME}.toml"))
    monkeypatch.setenv("DEEPMMSEARCH_MODEL", HOSTILE)
    monkeypatch.setenv("DEEPMMSEARCH_INDEX", f"{NAME}\nError: forged")
    for arguments in (["config"], ["config", "list", "--json"], ["config", "get", "model"], ["config", "path"]):
        code, out, _ = run(*arguments)
        assert code == 0 and MARK in out, arguments
    assert MARK in run("config", "set", "model", f"a{HOSTILE}")[1]
    with endpoint(lambda _: error(HOSTILE, 500)) as server:
        server.models = [HOSTILE]
        monkeypatch.setenv("DEEPMMSEARCH_BASE_URL", server.url)
        for more in ([], ["--json"]):
            assert MARK in run("doctor", "--check", *more)[1]
    (tmp_path / f"{NAME}.toml").write_text(f"{MARK} = [")
    assert run("config")[0] == 2 and run("doctor")[0] == 0


@pytest.mark.parametrize(
    ("reply", "quoted"),
    [
        (said(f"<reason>{HOSTILE}</reason><answer>{HOSTILE}</answer>"), True),
        (said(HOSTILE), True),
        (error(f"{HOSTILE}\nError: forged"), True),
        (error(HOSTILE, 404, HOSTILE), False),
        ((500, "text/html", HOSTILE.encode()), False),
        ((200, "application/json", f"{{{HOSTILE}".encode()), False),
    ],
)
def test_what_an_endpoint_says(run: Run, picture: Path, reply: Any, quoted: bool) -> None:
    with endpoint(lambda _: reply) as server:
        server.models = [f"vlm{HOSTILE}"]
        for more in ([], ["--json"]):
            code, out, err = run("ask", picture, HOSTILE, "--base-url", server.url, "--save", NAME, *more)
            assert code in (0, 1) and (MARK in out + err or not quoted)
        code, _, err = run("ask", picture, "Who?", "--base-url", server.url, "--model", HOSTILE)
        assert code in (0, 1, 2)


def test_what_a_provider_says(run: Run) -> None:
    pytest.importorskip("httpx2")
    row = {"title": HOSTILE, "url": f"https://a.test/{NAME}", "content": HOSTILE, "engine": HOSTILE}
    replies = (
        ServiceReply(200, json.dumps({"results": [row]}).encode(), kind="application/json"),
        ServiceReply(500, f"{HOSTILE}\nError: forged".encode(), kind="text/plain"),
        ServiceReply(200, json.dumps({"error": HOSTILE, "message": HOSTILE}).encode(), kind="application/json"),
        ServiceReply(403, json.dumps({"error": HOSTILE}).encode(), kind="application/json"),
    )
    with site() as server:
        for reply in replies:
            server.reply = lambda _, reply=reply: reply
            assert run("tools", "check", "searxng", f"url={server.url}")[0] in (0, 1, 2)
    for arguments in ([HOSTILE], ["searxng", f"{HOSTILE}=1"], ["searxng", HOSTILE], ["serper", "--page", HOSTILE]):
        code, _, err = run("tools", "check", *arguments)
        assert code == 2 and err


@pytest.mark.parametrize(
    "arguments",
    [
        [HOSTILE],
        ["show", f"{NAME}\nError: forged"],
        ["ask", NAME, "Who?"],
        ["data", HOSTILE],
        ["eval", NAME],
        ["report", NAME],
        ["atlas", "play", NAME, "--index", NAME, "--out", NAME],
        ["demo", "--policy", NAME, "--out", NAME],
        ["merge", NAME, NAME, NAME],
        ["tools", f"--{HOSTILE}"],
        ["index", "build", NAME],
        ["reproduce", "eval", "--model", HOSTILE],
    ],
)
def test_what_cannot_be_done(run: Run, arguments: list[str]) -> None:
    code, out, err = run(*arguments)
    assert code == 2 and MARK in err and not out


THIRD_PARTY = """
import logging, sys, threading, warnings
from deepmmsearch import cli, children
hostile = sys.argv.pop()
warnings.warn(hostile)
cli.guard_streams()
warnings.warn("1" + hostile)
logging.warning("2" + hostile)
logging.error("3%s", hostile, exc_info=ValueError(hostile))
print("4" + hostile, "5", hostile)
thread = threading.Thread(target=lambda: [][hostile])
thread.start(); thread.join()
class Gone:
    def __del__(self): raise ValueError(hostile)
gone = Gone(); del gone
raise RuntimeError(hostile)
"""


def test_what_other_packages_say() -> None:
    script = THIRD_PARTY.replace("warnings.warn(hostile)\n", "", 1)
    made = subprocess.run([sys.executable, "-c", script, HOSTILE], capture_output=True, check=False)
    out = (made.stdout + made.stderr).decode()
    assert made.returncode == 1 and out.count(MARK) > 7 and not OBEYED.search(out), out


CHILD = """
import sys, warnings
from deepmmsearch.children import Child
from told import tell
try:
    with Child(tell, sys.argv[1]) as child:
        child.receive()
except RuntimeError:
    pass
"""
TELL = """
import warnings
def tell(line, hostile):
    print(hostile)
    warnings.warn(hostile)
    raise ValueError(hostile)
"""


def test_what_children_say(tmp_path: Path) -> None:
    (tmp_path / "told.py").write_text(TELL)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    made = subprocess.run([sys.executable, "-c", CHILD, HOSTILE], capture_output=True, env=environment, check=True)
    out = made.stderr.decode()
    assert out.count(MARK) > 2 and not OBEYED.search(out), out


def test_bars() -> None:
    for terminal in (False, True):
        file = io.StringIO()
        with Bars(Console(file=file, force_terminal=terminal, width=200), lambda: 0.0) as bars:
            for done in range(3):
                bars(Step(HOSTILE, done, 2, HOSTILE))
        own = re.sub(r"\x1b\[[?\d;]*[A-Za-ln-z]|\x1b\[(?:\d+;)*\d+m|\r", "", file.getvalue())
        assert MARK in own and "\x1b[31m" not in file.getvalue() and not OBEYED.search(own), own


TERMINAL = """
import sys, warnings
from deepmmsearch import cli
from deepmmsearch.cli.bars import Bars
from deepmmsearch.console import Console
from deepmmsearch.progress import Step
from deepmmsearch.streams import guarded_streams
hostile = sys.argv.pop()
cli.guard_streams()
with Bars() as bars:
    bars(Step("a" + hostile, 1, 9))
    bars("b" + hostile)
    warnings.warn("c" + hostile)
    print("d" + hostile)
    sys.stderr.write("\\r50%" + hostile)
with Console().status("Thinking ...") as status, guarded_streams():
    warnings.warn("e" + hostile)
    status.stop()
    print("f" + hostile)
print("g" + hostile)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo terminals")
def test_a_terminal() -> None:
    master, terminal = os.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    forged = "\x1b[7;35mX\x1b]8;;https://evil.test\x1b\\\x1b]0;t\x07\x9b2J\u202e\x08"
    subprocess.run([sys.executable, "-c", TERMINAL, forged], stdout=terminal, stderr=terminal, env=environment)
    os.close(terminal)
    shown = b""
    with suppress(OSError):  # how the end of a terminal is told
        while piece := os.read(master, 65536):
            shown += piece
    os.close(master)
    out = shown.decode()
    assert set("abcdefg") <= set(re.findall(r"([a-g])(?:\[7;35m)?X", out)), out
    for obeyed in ("\x1b[7;35m", "\x1b]", "\x07", "\x9b", "\u202e", "\x08"):
        assert obeyed not in out, (obeyed, out)
