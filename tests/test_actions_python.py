"""`python`: what a program may do, and that it can do nothing else."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from deepmmsearch import sandbox
from deepmmsearch.actions.python import RunPython
from deepmmsearch.agent import Toolbox
from deepmmsearch.agent.dialect import DIALECTS
from deepmmsearch.agent.lines import unnumbered
from deepmmsearch.compose.recipe import read_settings
from deepmmsearch.compose.tool_settings import ToolSettings
from deepmmsearch.compose.toolbox import build_toolbox
from deepmmsearch.computing import MOST_PRINTED, _zones, compute
from deepmmsearch.errors import ToolError, UserError
from deepmmsearch.policies.human import HumanPolicy
from deepmmsearch.prompts import load_prompt
from deepmmsearch.testing import HOSTILE_TEXTS
from deepmmsearch.tools.cassette import Cassette
from deepmmsearch.tools.interpreter import IsolatedPython
from deepmmsearch.tools.recorded import RecordedInterpreter
from deepmmsearch.tools.recorder import Recorder
from deepmmsearch.types import Limits, Observation, Question, Trajectory, Use
from said_and_read import check_said_and_read

isolated = pytest.mark.skipif(not sandbox.can_isolate(), reason="this system has no seccomp")
SECRET = "sk-5f8a2c91d7e64b30"

# Each expression that is true, or gives anything else, is an escape. T: a folder with a secret; PORT: a server; TARGET
# and PARENT: processes. Those of UNTRIED do more to an interpreter outside than can be undone, or need rights there.
ESCAPES = {
    "open": "open(T+'/secret').read()",
    "open raw": "io.FileIO(T+'/secret').read()",
    "os.open": "os.open(T+'/secret',0)+1",
    "pathlib": "pathlib.Path(T+'/secret').read_text()",
    "listdir": "os.listdir(T)",
    "scandir": "list(os.scandir('/'))",
    "glob": "glob.glob(T+'/*')",
    "stat": "os.stat(T+'/secret')",
    "exists": "os.path.exists(T+'/secret')",
    "access": "os.access(T,0)",
    "statvfs": "os.statvfs('/')",
    "getcwd": "os.getcwd()",
    "chdir": "os.chdir('/') or 1",
    "readlink": "os.readlink('/proc/self/exe')",
    "write": "open(T+'/new','w')",
    "append": "open(T+'/secret','a')",
    "mkdir": "os.mkdir(T+'/folder') or 1",
    "symlink": "os.symlink(T+'/secret',T+'/symlink') or 1",
    "link": "os.link(T+'/secret',T+'/link') or 1",
    "rename": "os.rename(T+'/a',T+'/b') or 1",
    "unlink": "os.unlink(T+'/c') or 1",
    "chmod": "os.chmod(T+'/secret',0o777) or 1",
    "truncate": "os.truncate(T+'/d',0) or 1",
    "utime": "os.utime(T+'/d') or 1",
    "mkfifo": "os.mkfifo(T+'/fifo') or 1",
    "memfd": "os.memfd_create('x')+1",
    "temporary file": "tempfile.TemporaryFile()",
    "copy": "shutil.copy(T+'/secret',T+'/copy')",
    "database": "sqlite3.connect(T+'/db').execute('create table t(x)')",
    "mapped file": "mmap.mmap(os.open(T+'/secret',0),0,prot=1)[:]",
    "linecache": "linecache.getlines(T+'/secret')",
    "proc environ": "open('/proc/self/environ','rb').read()",
    "proc parent": "open(f'/proc/{PARENT}/environ','rb').read()",
    "proc mem": "open('/proc/self/mem','r+b')",
    "proc fd": "os.listdir('/proc/self/fd')",
    "passwd": "pwd.getpwuid(0)",
    "terminal": "open('/dev/tty')",
    "random device": "open('/dev/urandom','rb').read(1)",
    "shared memory": "shm.SharedMemory(create=True,size=10)",
    "System V memory": "libc.shmget(0,100,0o1600)+1",
    "semaphore": "libc.semget(0,1,0o1600)+1",
    "path import": "sys.path.insert(0,T) or importlib.import_module('planted')",
    "file import": "importlib.machinery.SourceFileLoader('planted2',T+'/planted.py').load_module()",
    "runpy": "runpy.run_path(T+'/planted.py')",
    "library": "ctypes.CDLL('libcrypt.so.1') if False else ctypes.CDLL(LIBRARY)",
    "open in C": "libc.open(T.encode()+b'/secret',0)+1",
    "openat2": "libc.syscall(437,-100,T.encode()+b'/secret',bytes(24),24)+1",
    "handle": "libc.syscall(303,-100,b'/',ctypes.create_string_buffer(200),ctypes.byref(ctypes.c_int()),0)+1",
    "chroot": "os.chroot('/') or 1",
    "mount": "libc.mount(b'x',T.encode(),b'tmpfs',0,0)+1",
    "unshare": "libc.unshare(0x10000000)+1",
    "tcp": "socket.create_connection(('127.0.0.1',PORT))",
    "tcp6": "socket.socket(socket.AF_INET6)",
    "udp": "socket.socket(type=socket.SOCK_DGRAM)",
    "raw socket": "socket.socket(socket.AF_INET,socket.SOCK_RAW,1)",
    "unix socket": "socket.socket(socket.AF_UNIX)",
    "abstract socket": "socket.socket(socket.AF_UNIX).bind('\\0x') or 1",
    "netlink": "socket.socket(socket.AF_NETLINK,socket.SOCK_RAW)",
    "vsock": "socket.socket(40,1)",
    "socket pair": "socket.socketpair()",
    "resolver": "socket.getaddrinfo('localhost',80)",
    "http": "urllib.request.urlopen(f'http://127.0.0.1:{PORT}/',timeout=1)",
    "file address": "urllib.request.urlopen(f'file://{T}/secret').read()",
    "host name": "socket.gethostname()",
    "fork": "forked()",
    "thread": "threading.Thread(target=int).start() or 1",
    "thread in C": "_thread.start_new_thread(int,())",
    "subprocess": "subprocess.run([sys.executable,'-c','']).returncode==0",
    "spawn": "os.posix_spawn('/bin/true',['true'],{})",
    "shell": "os.system('true')==0",
    "shell in C": "libc.system(b'true')==0",
    "exec": "os.execv('/bin/true',['true'])",
    "execveat": "libc.syscall(322,-100,b'/bin/true',0,0,0)+1",
    "clone": "libc.syscall(56,17,0,0,0,0)+1",
    "clone3": "libc.syscall(435,bytes(64),64)+1",
    "process": "multiprocessing.get_context('spawn').Process(target=int).start() or 1",
    "parent's number": "os.getppid()>0",
    "signal to parent": "os.kill(PARENT,0) or 1",
    "kill": "os.kill(TARGET,9) or 1",
    "kill all": "os.kill(-1,0) or 1",
    "kill in C": "libc.kill(TARGET,9)+1",
    "tgkill": "libc.syscall(234,TARGET,TARGET,9)+1",
    "pidfd": "os.pidfd_open(TARGET)+1",
    "pidfd of another": "libc.syscall(438,3,1,0)+1",
    "ptrace": "libc.ptrace(16,TARGET,0,0)+1",
    "memory of another": "libc.process_vm_readv(TARGET,0,0,0,0,0)+1",
    "session": "os.setsid()+1",
    "priority": "os.nice(1)+1",
    "processors": "os.sched_setaffinity(0,{0}) or 1",
    "death with parent": "libc.prctl(1,0,0,0,0)+1",
    "another filter": "libc.syscall(317,0,0,0)+1",
    "limits": "resource.setrlimit(resource.RLIMIT_AS,(-1,-1)) or 1",
    "limits of another": "resource.prlimit(TARGET,resource.RLIMIT_CPU)",
    "handler": "signal.signal(signal.SIGXCPU,signal.SIG_IGN) is not None",
    "alarm": "signal.setitimer(signal.ITIMER_REAL,9)",
    "io_uring": "libc.syscall(425,1,ctypes.create_string_buffer(120))+1",
    "bpf": "libc.syscall(321,0,0,0)+1",
    "perf": "libc.syscall(298,ctypes.create_string_buffer(120),0,-1,-1,0)+1",
    "keyring": "libc.syscall(250,0,-3,0)+1",
    "userfaultfd": "libc.syscall(323,0)+1",
    "x32": "libc.syscall(0x40000000+39)+1",
    "clock": "time.clock_settime(time.CLOCK_REALTIME,0) or 1",
    "name of the system": "os.uname()",
    "inherited": "[fd for fd in range(3,300) if readable(fd)]",
    "standard input": "os.read(0,1)",
    "standard error": "os.write(2,b'.')",
    "copied output": "os.dup2(1,0)+1",
    "pipe": "os.pipe()",
    "epoll": "select.epoll()",
    "inotify": "libc.inotify_init()+1",
    "control of output": "fcntl.fcntl(1,fcntl.F_GETFL)+1",
    "sleep": "time.sleep(0.001) or 1",
    "key in the environment": "SECRET in repr(os.environ)",
    "home": "os.environ.get('HOME')",
}
UNTRIED = {
    *(
        "exec",
        "execveat",
        "clone",
        "clone3",
        "kill",
        "kill all",
        "kill in C",
        "tgkill",
        "pidfd of another",
        "chroot",
        "mount",
    ),
    *("unshare", "raw socket", "vsock", "ptrace", "another filter", "limits", "io_uring", "bpf", "perf", "userfaultfd"),
    *(
        "x32",
        "clock",
        "standard error",
        "handler",
        "alarm",
        "inherited",
        "standard input",
        "terminal",
        "netlink",
        "tcp6",
    ),
    *(
        "keyring",
        "handle",
        "home",
        "key in the environment",
        "session",
        "proc parent",
        "proc mem",
        "openat2",
        "limits of another",
    ),
    *(
        "System V memory",
        "semaphore",
        "process",
        "copied output",
        "chdir",
        "death with parent",
        "processors",
        "database",
        "memory of another",
    ),
}
MODULES = (
    "_thread ctypes fcntl glob importlib.machinery io linecache mmap multiprocessing os pathlib pwd resource runpy "
    "select shutil signal socket sqlite3 subprocess sys tempfile threading time urllib.request "
    "multiprocessing.shared_memory"
)
ATTACKS = """
for module in MODULES.split():
    try: globals()[module.partition('.')[0]] = __import__(module)
    except ImportError: pass
import sys
shm = sys.modules.get('multiprocessing.shared_memory')
libc = ctypes.CDLL(None)
def forked():
    child = os.fork()
    if not child: os._exit(0)
    return child
def readable(fd):
    try: return os.fstat(fd)
    except OSError: return None
for name, escape in ESCAPES.items():
    try: got = eval(escape)
    except BaseException: got = None
    if got is False or got is None or got == 0 or got == []: print('held', name)
    else: print('escaped', name)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What is attacked."""
    folder = tmp_path_factory.mktemp("attacked")
    for name in ("secret", "a", "c", "d"):
        (folder / name).write_text(SECRET)
    (folder / "planted.py").write_text("x = 1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        try:
            yield {
                "T": str(folder), "PORT": server.getsockname()[1], "TARGET": target.pid, "PARENT": os.getpid(),
                "SECRET": SECRET, "LIBRARY": _library(), "server": server, "target": target,
            }  # fmt: skip
        finally:
            target.kill()
            target.communicate()


def _library() -> str:
    """A shared library that no interpreter has loaded."""
    found = [*Path("/usr/lib").rglob("libanl.so*"), *Path("/lib").rglob("libutil.so*"), *Path("/usr/lib").rglob("*.so")]
    return str(next(iter(found), "libm.so.6"))


def _program(place: dict[str, Any], escapes: Mapping[str, str]) -> str:
    named = "".join(
        f"{name} = {value!r}\n"
        for name, value in {**place, "MODULES": MODULES}.items()
        if name not in ("server", "target")
    )
    return f"{named}ESCAPES = {dict(escapes)!r}\n{ATTACKS}"


# an interpreter that has imported all that helps an attack, isolated or not, then runs standard input
ARMED = """
import sys
from deepmmsearch import computing, sandbox
program = sys.stdin.read()
exec(program.partition('libc =')[0])
computing._limit(20, 4 << 30) if sys.argv[1] == 'isolated' else None
assert sys.argv[1] == 'free' or sandbox.isolate()
computing._run(program, {})
sys.stdout.flush()
computing.os._exit(0)
"""


def _attack(how: str, place: dict[str, Any]) -> dict[str, str]:
    """By name: held or escaped."""
    if how == "real":
        printed = compute(_program(place, ESCAPES), seconds=20)
    else:
        tried = {name: escape for name, escape in ESCAPES.items() if how == "isolated" or name not in UNTRIED}
        command = [sys.executable, "-P", "-c", ARMED, how]
        run = subprocess.run(command, input=_program(place, tried), capture_output=True, text=True, cwd=place["T"])
        printed = run.stdout
    return {name: word for word, _, name in (line.partition(" ") for line in printed.splitlines())}


@pytest.fixture(scope="module")
def outcomes(place: dict[str, Any]) -> dict[str, dict[str, str]]:
    if not sandbox.can_isolate():
        pytest.skip("this system has no seccomp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOMEBODYS_API_KEY", SECRET)
        found = {how: _attack(how, place) for how in ("real", "isolated")}
    made = {path.name for path in Path(place["T"]).iterdir()}
    assert made == {"secret", "planted.py", "a", "c", "d"}, "a program changed files"
    assert place["target"].poll() is None, "a program killed another process"
    place["server"].settimeout(0)
    with pytest.raises(BlockingIOError):
        place["server"].accept()
    return {**found, "free": _attack("free", place)}


@pytest.mark.parametrize("name", ESCAPES)
def test_no_program_escapes(name: str, outcomes: dict[str, dict[str, str]]) -> None:
    # what an interpreter finds in its own environment is not taken from it by the kernel
    hows = ("real",) if name in ("key in the environment", "home", "inherited") else ("real", "isolated")
    assert {how: outcomes[how].get(name) for how in hows} == dict.fromkeys(hows, "held")


def test_the_attacks_are_real(outcomes: dict[str, dict[str, str]]) -> None:
    """Without isolation they succeed, but for what a system or its user may not do at all."""
    held = [name for name, word in outcomes["free"].items() if word == "held"]
    assert len(outcomes["free"]) >= 60 and len(held) <= 8, held
    assert len(ESCAPES) >= 100


@isolated
@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("while True: pass", "took more than 1 s"),
        ("10**10**10", "took more than 1 s"),
        ("import re\nre.match('(a+)+$', 'a' * 60 + 'b')", "took more than 1 s"),
        ("import signal\nsignal.pthread_sigmask(0, range(1, 65))\nwhile True: pass", "PermissionError"),
        ("x = []\nwhile True: x.append(bytes(10**7))", "Line 2: MemoryError"),
        ("'x' * 10**12", "Line 1: MemoryError"),
        ("bytearray(10**10)", "Line 1: MemoryError"),
        ("while True: print('y' * 1000)", "it printed more than"),
        ("import os\nwhile True: os.write(1, b'y' * 1000)", "it printed more than"),
        ("import ctypes\nctypes.string_at(0)", "crashed"),
        ("import ctypes\nctypes.memset(id(1), 255, 10**6)", "crashed"),
        ("import os\nos.abort()", "crashed"),
        ("import os\nos._exit(71)", "isolated here"),
        ("import os\nos._exit(3)", "crashed"),
        ("f = lambda: f()\nf()", "RecursionError"),
        ("(" * 5000, "Error"),
        ("eval('1' + '+1' * 9000)", "Error"),
        ("import os\nwhile True:\n  try: os.fork()\n  except PermissionError: print('no' * 500)", "printed more"),
        ("class E(Exception):\n  def __str__(s): raise s\nraise E", "E"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("import sys\nsys.exit(4)", ""),
        ("import os\nos.close(1)", "PermissionError"),
        ("import sys\nsys.stdout = sys.__stdout__ = None\n3", "crashed"),
    ],
)
def test_a_program_harms_nobody_but_itself(program: str, said: str) -> None:
    try:
        told = compute(program, seconds=1)
    except ToolError as error:
        told = str(error)
    assert said in told and len(told) <= MOST_PRINTED + 100


@isolated
def test_a_program_that_waits_is_ended() -> None:
    with pytest.raises(ToolError, match="took more than"):
        compute("import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()", wall=0.5)


@isolated
@pytest.mark.parametrize(
    ("program", "printed"),
    [
        ("2**100", "1267650600228229401496703205376"),
        ("from datetime import date\n(date(2024, 3, 1) - date(1999, 12, 31)).days", "8827"),
        ("from datetime import datetime as d\nd.strptime('1830-05-02', '%Y-%m-%d').strftime('%A')", "'Sunday'"),
        (
            "from datetime import datetime\nfrom zoneinfo import ZoneInfo\n"
            "print(datetime(2024, 5, 1, 12, tzinfo=ZoneInfo('UTC')).isoformat())",
            "2024-05-01T12:00:00+00:00",
        ),
        (
            "import zoneinfo, datetime as d\nplace = '/'.join(['Europe', 'Berlin'])\n"
            "d.datetime(2024, 7, 1, tzinfo=zoneinfo.ZoneInfo(place)).utcoffset() // d.timedelta(hours=1)",
            "2",
        ),
        ("from fractions import Fraction as F\nprint(F(1, 3) + F(1, 6))", "1/2"),
        ("import statistics, math\nround(statistics.stdev([2, 4, 9]), 3), math.isqrt(99)", "(3.606, 9)"),
        ("miles = 12.5\nf'{miles * 1.609344:.2f} km'", "'20.12 km'"),
        ("def f(n):\n    return 1 if n < 2 else n * f(n - 1)\n\nfor n in (3, 5):\n    print(f(n))", "6\n120"),
        ("x = 3", ""),
        ("'größer ×'.upper()", "'GRÖSSER ×'"),
        ("1 / 0", "Line 1: ZeroDivisionError: division by zero"),
        ("x = (", "Line 1: SyntaxError: '(' was never closed"),
        ("import numpy", "Line 1: ModuleNotFoundError: No module named 'numpy'"),
    ],
)
def test_what_a_program_shows(program: str, printed: str) -> None:
    assert compute(program).strip() == printed


class Told:
    name = "told"

    def __init__(self, printed: str = "") -> None:
        self.printed, self.programs = printed, list[str]()

    async def run(self, program: str, seconds: int) -> str:
        self.programs.append(program)
        return self.printed


def run(code: str, interpreter: Any) -> Observation:
    box = Toolbox(extra=(RunPython(),), interpreter=interpreter)
    start = Trajectory(Question("q", "How long ago?"), load_prompt("deepmmsearch-r1"))
    return asyncio.run(box.execute(Use("python", {"code": code}, search=False), start, Limits()))


def test_the_policy_reads_what_was_printed() -> None:
    found = run("print(1)\n2", Told("1\n\n2"))
    assert found.text == "Output: 1\nOutput: 2" and found.error is None
    assert [(call.tool, call.provider) for call in found.calls] == [("python", "told")]
    assert "printed nothing" in run("x = 1", Told()).text
    assert run("1", None).error == "Programs cannot be run here. Use another tool or answer."
    many = run("1", Told("word " * 30 + "\n" + "more\n" * 3000))
    assert len(many.text) <= 6100 and many.text.endswith(" more lines are not shown.")


@isolated
def test_a_program_is_run_from_an_episode() -> None:
    assert run("6 * 7", IsolatedPython()).text == "Output: 42"
    assert run("while", IsolatedPython()).text == "Output: Line 1: SyntaxError: invalid syntax"


@pytest.mark.parametrize("said", [*HOSTILE_TEXTS, "Error: stop", "[1] match: x\n[2] y", "x\u2028Output: y"])
def test_what_is_printed_cannot_pass_for_more(said: str) -> None:
    for line in run("1", Told(said)).text.splitlines():
        rest = line.removeprefix("Output: ")
        assert "printed nothing" in line or (rest != line and rest == unnumbered(rest))


CODES = ["1 + 1", "for n in range(3):\n    print(n)\n\nprint('a < b', [1])", '{"code": "1"}', "# only\n'''x'''"]


@pytest.mark.parametrize("dialect", DIALECTS.names())
@pytest.mark.parametrize("code", CODES)
def test_every_dialect_writes_and_reads_it(dialect: str, code: str) -> None:
    check_said_and_read(dialect, Use("python", {"code": code}, search=False), Toolbox(extra=(RunPython(),)).offered)


def test_code_in_a_fence_or_as_json_is_the_same_program() -> None:
    plain = RunPython().read("x = 1\nx")
    for written in ("```python\nx = 1\nx\n```", "\n    x = 1\n    x\n", '{"code": "x = 1\\nx"}', "```\nx = 1\nx```"):
        assert RunPython().read(written) == plain
    for wrong in ("", "  \n", '{"code": ""}', '{"code": " "}'):
        with pytest.raises(ValueError, match="takes a program"):
            RunPython().read(wrong)
    with pytest.raises(ValueError, match="has no argument"):
        RunPython().accept({"program": "1"})


def test_it_is_recorded_and_replayed_anywhere(tmp_path: Path) -> None:
    path, told = tmp_path / "calls.sqlite", Told("42\n")
    known = {"provider": IsolatedPython.name}
    first = Recorder(Cassette(path, read_only=False), "cache")
    assert run("6 * 7", RecordedInterpreter(told, first, known)).text == "Output: 42"
    first.close()
    replay = Recorder(Cassette(path, read_only=True), "replay")
    assert run("6 * 7", RecordedInterpreter(None, replay, known)).text == "Output: 42"
    assert told.programs == ["6 * 7"]
    assert "holds no answer" in (run("7", RecordedInterpreter(None, replay, known)).error or "")


def _built(**more: Any) -> Toolbox:
    given = {"text": [{"name": "retrieve", "url": "http://127.0.0.1:9"}], "reader": "none", **more}
    return build_toolbox(read_settings(given, ToolSettings, "a recipe"), HumanPolicy())


@isolated
def test_a_recipe_allows_it() -> None:
    assert _built().interpreter is None and _built().extra == ()
    built = _built(extra=[{"name": "python", "limit": 2, "seconds": 3}], prices={"python": 0.01})
    assert isinstance(built.interpreter, IsolatedPython)
    (tool,) = built.extra
    assert isinstance(tool, RunPython) and (tool.limit, tool.seconds) == (2, 3)
    with pytest.raises(UserError, match="seconds"):
        _built(extra=[{"name": "python", "seconds": 1000}])


def test_without_isolation_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "can_isolate", lambda: False)
    with pytest.raises(UserError, match="needs Linux"):
        _built(extra=["python"])
    with pytest.raises(ToolError, match="cannot be isolated here"):
        compute("1")


@isolated
@pytest.mark.parametrize("name", ["'../../etc/passwd'", "'/etc/passwd'", "'Europe/../../../etc/passwd'", "'No/Such'"])
def test_a_name_of_a_time_zone_opens_no_file(name: str) -> None:
    assert "Error" in compute(f"import zoneinfo\nzoneinfo.ZoneInfo({name})")
    assert _zones(f"zoneinfo.ZoneInfo({name})") == _zones("zoneinfo") and not _zones(f"open({name})")
