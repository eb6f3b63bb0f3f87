"""Child processes: nothing of the current folder runs, no key goes along, who reads strangers' files is confined."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deepmmsearch import children, sandbox
from deepmmsearch.children import Child, ParentPipe, call_all, confinement
from deepmmsearch.environment import environment
from deepmmsearch.errors import UserError
from long_lived import KINDS

SOURCE = Path(__file__).parent.parent / "src"
KEYS = {
    name: f"sk-{name.lower()}-1234567890"
    for name in (
        *("OPENAI_API_KEY", "SERPER_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY", "GITHUB_PAT"),
        *("HUGGING_FACE_HUB_TOKEN", "DB_PASSWORD", "MY_OWN"),
    )
}
NAMES = (
    "struct",
    "json",
    "sitecustomize",
    "usercustomize",
    "trafilatura",
    "lxml",
    "pypdfium2",
    "torch",
    "numpy",
    "selectors",
)


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder holds modules of well-known names, each of which leaves a mark when it is run."""
    folder = tmp_path / "downloaded"
    code = f"import os; os.close(os.open({str(tmp_path / 'ran')!r}, os.O_CREAT | os.O_WRONLY)); raise SystemExit(7)\n"
    for name in ("deepmmsearch", "multiprocessing"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(code)
    for name in NAMES:
        (folder / f"{name}.py").write_text(code)
    (folder / "page.html").write_text("<html><body><p>" + "Oru has the capital Venn. " * 9 + "</p></body></html>")
    (folder / "page.md").write_text("# Oru\n\nOru has the capital Venn.\n")
    monkeypatch.chdir(folder)
    yield folder
    assert not (tmp_path / "ran").exists(), "something of the current folder was run"


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


def program(code: str, *flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Python in the current folder, started as careful people do."""
    command = [sys.executable, *(flags or ("-P",)), "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **variables})


# --- the current folder


def test_an_index_of_a_hostile_folder_is_built(hostile: Path) -> None:
    done = program(
        "import sys; sys.argv[1:] = 'index build . --out index'.split(); from deepmmsearch.cli import main; main()"
    )
    assert done.returncode == 0 and done.stdout.startswith("2 added"), done


def test_python_m_leaves_the_current_folder_out(hostile: Path) -> None:
    # a package of our name cannot be told from ours there: Python itself imports it first
    for file in (hostile / "deepmmsearch").iterdir():
        file.unlink()
    (hostile / "deepmmsearch").rmdir()
    for name in ("sitecustomize", "usercustomize"):
        (hostile / f"{name}.py").unlink()
    done = subprocess.run(
        [sys.executable, "-m", "deepmmsearch", "index", "build", ".", "--out", "index"], capture_output=True, text=True
    )
    assert done.returncode == 0, done


def test_a_reader_of_web_pages_starts_in_a_hostile_folder(hostile: Path) -> None:
    """What `ask --tools` starts for the pages behind hits."""
    code = (
        "from deepmmsearch.reading.document import Origin\n"
        "from deepmmsearch.reading.worker import Extractor\n"
        "with Extractor(20) as extractor:\n"
        "    origin = Origin('html', 'x', address='https://a.example/x', longest=9)\n"
        "    print(extractor.read(origin, open('page.html', 'rb').read()).text)\n"
    )
    done = program(code)
    assert "Oru has" in done.stdout, done


@pytest.mark.parametrize("given", ["", os.pathsep + str(SOURCE), str(SOURCE) + os.pathsep])
def test_an_empty_entry_of_the_import_path_is_not_the_current_folder(
    hostile: Path, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", given)
    monkeypatch.syspath_prepend("")
    path = environment()["PYTHONPATH"].split(os.pathsep)
    assert "" not in path and str(hostile) not in path and str(SOURCE) in path
    with children.start("deepmmsearch", "--version", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and b"version" in process.stdout.read()


def test_what_the_user_put_on_the_import_path_stays_there(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = hostile.parent / "own"
    own.mkdir()
    (own / "mine.py").write_text("print('mine')\n")
    monkeypatch.setenv("PYTHONPATH", str(own))
    with children.start("mine", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.read() == b"mine\n"


def test_a_stage_of_the_study_starts_in_a_hostile_folder(hostile: Path, keys: None) -> None:
    from deepmmsearch.reproduce.study import Job, Study, run_jobs

    class Given(Study):
        def jobs(self) -> list[Job]:
            return [Job("world", ("atlas", "make", str(self.out / "world"), "--seed", "3"), self.out / "world")]

    out = hostile.parent / "out"
    run_jobs(Given(hostile, out), 1, lambda line: None)
    assert (out / "world").is_dir(), (out / "world.log").read_text()


def double(number: int) -> int:
    return 2 * number


def fail(kind: str) -> None:
    raise UserError("no such thing") if kind == "user" else ValueError("broken")


def wait_long() -> None:
    time.sleep(600)


def test_functions_are_called_in_a_hostile_folder(hostile: Path) -> None:
    """As the study measures, and as the small model is trained."""
    assert list(call_all([(double, 1), (double, 2), (double, 3)], 2)) == [2, 4, 6]


def test_the_first_that_fails_ends_the_others() -> None:
    began = time.monotonic()
    with pytest.raises(UserError, match="no such thing"):
        list(call_all([(wait_long,), (fail, "user")], 2))
    with pytest.raises(RuntimeError, match="ValueError: broken"):
        list(call_all([(wait_long,), (fail, "other")], 2))
    assert time.monotonic() - began < 60


def test_the_helpers_of_pretraining_start_in_a_hostile_folder(hostile: Path) -> None:
    pytest.importorskip("torch")
    from deepmmsearch.bundled import pretrain
    from deepmmsearch.bundled.pretrain_recipe import LessonStageSettings, PretrainRecipe

    pretrain._run_together([(double, 1), (double, 2)])
    recipe = PretrainRecipe.model_construct(text=LessonStageSettings(steps=1, workers=2, lessons={}))
    calls = pretrain._lesson_calls(recipe, "text")
    assert [call[1] for call in calls] == [0, 1]


def test_a_data_build_plays_in_a_hostile_folder(hostile: Path, keys: None) -> None:
    pytest.importorskip("pyarrow")
    pytest.importorskip("imagehash")
    from data_players import good, makers, write_seeds
    from deepmmsearch.data.pipeline import build
    from test_data_pipeline import settings

    place = hostile.parent / "place"
    seeds = write_seeds(place / "seeds", [good(n) for n in range(24)])
    log = place / "log"
    build(settings(place, seeds, processes=2), makers(log))
    workers = {int(line.split()[2]) for line in log.read_text().splitlines()}
    assert os.getpid() not in workers, "workers played"


# --- keys


def environment_of(line: ParentPipe) -> dict[str, str]:
    return dict(os.environ)


def test_no_key_goes_along_that_was_not_handed(keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:word@proxy.example:3128")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    with Child(environment_of, keys=("SERPER_API_KEY",)) as child:
        found = child.receive()["value"]
    assert {name for name in (*KEYS, "HTTPS_PROXY") if name in found} == {"SERPER_API_KEY"}
    assert found["HTTP_PROXY"] and found["TOKENIZERS_PARALLELISM"] == "false" and found["PATH"]
    assert set(KEYS.values()) & set(found.values()) == {KEYS["SERPER_API_KEY"]}


def test_the_process_that_reads_strangers_files_has_no_home_either(keys: None) -> None:
    found = environment(confined=True)
    assert not {*KEYS, "HOME", "PATH", "USER"} & found.keys() and found["PYTHONSAFEPATH"] == "1"


def test_a_data_build_is_handed_the_keys_that_it_needs() -> None:
    from deepmmsearch.compose import data_build as builds
    from deepmmsearch.compose.keys import keys_of

    recipe = builds.DataRecipe.model_validate(
        {
            "output": "out",
            "seeds": {"worlds": 1},
            "taxonomy": {"categories": ["Arts"]},
            "teacher": {
                "policy": {"kind": "chat", "base_url": "http://127.0.0.1:1", "key_variable": "TEACHER_KEY"},
                "tools": {"text": ["serper", {"name": "brave", "key_variable": "MY_BRAVE"}], "image": "serper-lens"},
            },
        }
    )
    assert set(keys_of(recipe)) == {"TEACHER_KEY", "SERPER_API_KEY", "MY_BRAVE"}
    local = recipe.model_copy(update={"teacher": builds.PlayerSettings()})
    assert set(keys_of(local)) == set()


def test_a_stage_is_handed_the_keys_that_were_named(keys: None, tmp_path: Path) -> None:
    from deepmmsearch.reproduce import study

    code = "import os, pathlib, sys; pathlib.Path(sys.argv[2]).write_text('\\n'.join(os.environ))"

    class Given(study.Study):
        def jobs(self) -> list[study.Job]:
            return [study.Job("one", (code, str(self.out / "names")), self.out / "names")]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "PROGRAM", "given_code")
        patch.syspath_prepend(str(Path(__file__).parent))
        study.run_jobs(Given(tmp_path, tmp_path, keys=("WANDB_API_KEY",)), 1, lambda line: None)
    assert set(KEYS) & set((tmp_path / "names").read_text().split()) == {"WANDB_API_KEY"}


# --- the process that takes strangers' files apart

PROBE = """
import ctypes, json, os, socket, subprocess, sys
from pathlib import Path
from deepmmsearch import confined

def tried(action):
    try:
        action()
    except OSError as error:
        return type(error).__name__
    return "done"

def read(request, content):
    where = request["where"]
    return {
        "environment": list(os.environ),
        "folder": os.getcwd(),
        "tcp": tried(lambda: socket.create_connection(("127.0.0.1", int(request["port"])), 2)),
        "udp": tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)),
        "unix": tried(lambda: socket.socket(socket.AF_UNIX)),
        "read": tried(lambda: open(where + "/secret").read()),
        "list": tried(lambda: os.listdir(where)),
        "write": tried(lambda: open(where + "/written", "w")),
        "make": tried(lambda: os.mkdir(where + "/made")),
        "rename": tried(lambda: os.rename(where + "/secret", where + "/taken")),
        "remove": tried(lambda: os.remove(where + "/secret")),
        "program": tried(lambda: subprocess.run([sys.executable, "-c", "pass"])),
        "parent's environment": tried(lambda: open(f"/proc/{os.getppid()}/environ", "rb").read()),
        "signal": tried(lambda: os.kill(os.getppid(), 0)),
    }

if __name__ == "__main__":
    confined.serve(read)
"""
NETWORK = ("tcp", "udp", "unix", "program")
FILES = ("read", "list", "write", "make", "rename", "remove", "parent's environment")


@pytest.fixture
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: None) -> dict[str, Any]:
    import socket

    from deepmmsearch.confined import Worker

    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/prober.py").write_text(PROBE)
    (tmp_path / "place").mkdir()
    (tmp_path / "place/secret").write_text("secret")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))
    with socket.create_server(("127.0.0.1", 0)) as server, Worker("prober", 20) as worker:
        asked = {"where": str(tmp_path / "place"), "port": str(server.getsockname()[1])}
        return worker.ask(asked, b"page")


@pytest.mark.skipif(not confinement().network, reason="this system cannot take the network from a process")
def test_it_has_no_network(probe: dict[str, Any]) -> None:
    assert {name: probe[name] for name in NETWORK} == dict.fromkeys(NETWORK, "PermissionError")


@pytest.mark.skipif(not confinement().files, reason="this system cannot take the files from a process")
def test_it_has_no_files(probe: dict[str, Any], tmp_path: Path) -> None:
    assert {name: probe[name] for name in FILES} == dict.fromkeys(FILES, "PermissionError")
    assert [path.name for path in (tmp_path / "place").iterdir()] == ["secret"]


def test_it_has_no_keys_and_no_folder(probe: dict[str, Any]) -> None:
    assert not {*KEYS, "HOME", "PATH"} & set(probe["environment"])
    assert probe["folder"] == Path(sys.executable).anchor


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux is expected to confine")
def test_what_was_promised_is_what_holds() -> None:
    """In a process of its own, for it is for good; with a second thread files are not promised."""
    for before, threads in (
        ("", 1),
        ("import threading as t; t.Thread(target=t.Event().wait, daemon=True).start(); ", 2),
    ):
        code = f"{before}from deepmmsearch import sandbox; p = sandbox.probe(); print(p); print(sandbox.confine())"
        promised, held = program(code).stdout.splitlines()
        assert promised == str(confinement())
        assert held == promised if threads == 1 else "files=False" in held


def test_a_system_that_cannot_confine_reads_on(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        """A kernel that knows none of it."""

        def prctl(self, *_: Any) -> int:
            return -1

        def syscall(self, *_: Any) -> int:
            return -1

    monkeypatch.setattr(sandbox, "_libc", lambda: Old())
    assert sandbox.confine() == sandbox.probe() == sandbox.Confinement(False, False)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert sandbox.confine() == sandbox.probe() == sandbox.Confinement(False, False)


def pdf() -> bytes:
    """One page that says Oru."""
    content = b"BT /F1 24 Tf 72 720 Td (Oru has the capital Venn) Tj ET"
    parts = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R"
        b" /Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>",
        b"<< /Length %d >>\nstream\n" % len(content) + content + b"\nendstream",
    ]
    out = io.BytesIO(b"%PDF-1.4\n")
    out.seek(0, os.SEEK_END)
    places = []
    for number, part in enumerate(parts, 1):
        places.append(out.tell())
        out.write(b"%d 0 obj\n" % number + part + b"\nendobj\n")
    start = out.tell()
    out.write(b"xref\n0 5\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % place for place in places))
    out.write(b"trailer << /Size 5 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % start)
    return out.getvalue()


PAGE = (
    "<html lang='en'><head><meta charset='{0}'><title>Café Oru</title><meta property='article:published_time'"
    " content='2021-03-04'></head><body><article><h1>Oru</h1><p>" + "Oru café has the capital Venn. " * 12 + "</p>"
    "</article><p>Posted on 5 March 2021</p></body></html>"
)


def test_confined_it_reads_what_it_read_before() -> None:
    """Lazy imports, tables of encodings and of dates among them."""
    pytest.importorskip("trafilatura")
    from deepmmsearch.reading.file_kinds import extract, page_origin, read
    from deepmmsearch.reading.worker import Extractor

    files = {
        "a.html": PAGE.format("utf-8").encode(),
        "b.html": PAGE.format("windows-1252").encode("cp1252"),
        "c.html": PAGE.format("shift_jis").replace("é", "日本").encode("shift_jis"),
        "d.md": b"# Oru\n\nOru has the capital Venn. ![flag](flag.png)\n",
        "e.pdf": pdf(),
        "f.txt": "Ōru has a capital.".encode("utf-16"),
    }
    with Extractor(60) as extractor:
        for name, content in files.items():
            assert extractor.extract(name, content) == extract(name, content)
        for name, kind in (
            ("a.html", "text/html"),
            ("b.html", ""),
            ("e.pdf", "application/pdf"),
            ("f.txt", "text/plain"),
        ):
            origin = page_origin("https://a.example/x", kind, "", files[name], 9999)
            page = extractor.read(origin, files[name])
            assert page == read(origin, files[name])
            assert page.date == ("2021-03-04" if name.endswith("html") else page.date)


# --- the end


def gone(pid: int) -> bool:
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        state = Path(f"/proc/{pid}/stat")
        if state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


STARTS = {
    "worker": (
        "from deepmmsearch.reading.worker import Extractor\n"
        "e = Extractor(600); e.extract('a.txt', b'Hello.'); print(e._process.pid, flush=True)\n"
        "e.extract('a.html', b'<p>' + b'<b>word</b> ' * 150_000)\n"
    ),
    "pictures": (
        "from deepmmsearch import images; import os, time\n"
        "try: images.load(b'none')\nexcept Exception: pass\n"
        "worker = images._decoders(os.getpid(), images.FORMATS)[1].get()\n"
        "print(worker._process.pid, flush=True); time.sleep(600)\n"
    ),
    "stage": (
        "from deepmmsearch import children\n"
        "p = children.start('given_code', 'import time; time.sleep(600)'); print(p.pid, flush=True); p.wait()\n"
    ),
    "function": (
        "from deepmmsearch import children; import time\n"
        "c = children.Child(children._plainly, time.sleep, 600); print(c._process.pid, flush=True); c.receive()\n"
    ),
}


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize("system", ["linux", "another"])
@pytest.mark.parametrize("kind", STARTS)
def test_a_child_dies_with_its_parent(kind: str, system: str, tmp_path: Path) -> None:
    """By the kernel's signal, and without it."""
    code = STARTS[kind]
    if system != "linux":
        (tmp_path / "sitecustomize.py").write_text(
            "import sys\n"
            f"if 'deepmmsearch.children import' in ' '.join(sys.orig_argv):\n    sys.platform = {system!r}\n"
        )
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parent), str(SOURCE)])
    parent = subprocess.Popen(
        [sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    time.sleep(0.3)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert gone(child)


@pytest.mark.skipif(sys.platform == "win32", reason="has other signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT", "SIGKILL"])
def test_no_process_is_left_whatever_ends_the_first(name: str, tmp_path: Path) -> None:
    """Also those of a data build, those that threads started, and those below others."""
    path = os.pathsep.join([str(Path(__file__).parent), str(SOURCE)])
    variables = {**os.environ, "PYTHONPATH": path, "PYTHONFAULTHANDLER": ""}
    command = [sys.executable, "-P", "-c", "import sys, long_lived; long_lived.main(sys.argv[1])", str(tmp_path)]
    with subprocess.Popen(command, env=variables, stderr=subprocess.DEVNULL) as parent:
        try:
            limit = time.monotonic() + 60
            while len(noted := sorted(path.name for path in tmp_path.iterdir() if "-" in path.name)) < len(KINDS):
                assert parent.poll() is None and time.monotonic() < limit, noted
                time.sleep(0.05)
            assert sorted(each.partition("-")[0] for each in noted) == sorted(KINDS)
            parent.send_signal(getattr(signal, name))
            parent.wait(60)
        finally:
            parent.kill()
    assert [each for each in noted if not gone(int(each.rpartition("-")[2]))] == []


def test_a_child_that_crashed_is_told() -> None:
    with Child(crash) as child, pytest.raises(RuntimeError, match="ended with code"):
        child.receive()


def crash(line: ParentPipe) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_child_prints_is_no_answer() -> None:
    with Child(talk) as child:
        child.send(json.dumps("question").encode())
        assert child.receive() == ["question", 1] and child.receive() == {"value": None}


def talk(line: ParentPipe) -> None:
    print("said in passing")
    line.send(json.dumps([json.loads(line.receive()), 1]).encode())
