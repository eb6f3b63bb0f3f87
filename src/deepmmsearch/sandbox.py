"""A process takes from itself, for good, the network and the files that it does not need: Landlock and seccomp.

By the system calls themselves: the packages for it on the index are pre-releases, or need a library of the system. What
a kernel cannot do is left out and told, never an error: a page is read on every system, confined where that can be.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# one number each on every processor
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_SET_NO_NEW_PRIVS, _SET_SECCOMP, _FILTER = 38, 22, 2
_ALL_THREADS = 1
# programs written for a newer kernel must not name rights that this one does not know
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_ALL_RIGHTS = 16

# by processor: how the kernel names it, the call that sets a filter, and the calls that reach the network, or something
# that would do so for it: io_uring, another process's memory and descriptors, another program
_CALLS: dict[str, tuple[int, int, tuple[int, ...]]] = {
    "x86_64": (
        0xC000003E,
        317,
        # socket connect accept sendto sendmsg bind listen execve ptrace accept4 sendmmsg process_vm_readv _writev
        # execveat io_uring_setup _enter _register pidfd_getfd
        (41, 42, 43, 44, 46, 49, 50, 59, 101, 288, 307, 310, 311, 322, 425, 426, 427, 438),
    ),
    "aarch64": (
        0xC00000B7,
        277,
        # ptrace socket bind listen accept connect sendto sendmsg execve accept4 sendmmsg process_vm_readv _writev
        # execveat io_uring_setup _enter _register pidfd_getfd
        (117, 198, 200, 201, 202, 203, 206, 211, 221, 242, 269, 270, 271, 281, 425, 426, 427, 438),
    ),
}
# by processor: what is left to a process that computes and does nothing else. write (to standard output alone),
# memory (mmap mprotect munmap brk mremap madvise), futex sched_yield, clocks (clock_gettime clock_getres gettimeofday,
# time), getrandom, rt_sigreturn restart_syscall, exit exit_group
_COMPUTING = {
    "x86_64": (1, (9, 10, 11, 12, 25, 28, 202, 24, 228, 229, 96, 201, 318, 15, 219, 60, 231)),
    "aarch64": (64, (222, 226, 215, 214, 216, 233, 98, 124, 113, 114, 169, 278, 139, 128, 93, 94)),
}
_X32 = 0x40000000
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM

_SYSTEM = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/nix/store", "/gnu/store"),
    *("/etc/ld.so.cache", "/etc/localtime", "/usr/share/zoneinfo", "/dev/null", "/dev/urandom"),
)


@dataclass(frozen=True)
class Confinement:
    """What holds, or could hold here: no `network`; no `files` but the interpreter's and its libraries', read-only."""

    network: bool
    files: bool


def probe() -> Confinement:
    """What this system can do; changes nothing."""
    if sys.platform != "linux":
        return Confinement(False, False)
    libc = _libc()
    # a filter at no address: refused as such where there are filters, as an unknown request elsewhere
    ctypes.set_errno(0)
    libc.prctl(_SET_SECCOMP, _FILTER, None, 0, 0)
    return Confinement(_known_processor() and ctypes.get_errno() == errno.EFAULT, _landlock_version(libc) > 0)


def confine() -> Confinement:
    """Confines this process and all it starts. To be called before a second thread is there: in its hands the files
    would stay free, and are told as such."""
    if sys.platform != "linux":
        return Confinement(False, False)
    libc = _libc()
    if libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return Confinement(False, False)
    alone = _threads() == 1
    files = _confine_files(libc) and alone
    return Confinement(_confine_network(libc), files)


def can_isolate() -> bool:
    """Does `isolate` hold here? Changes nothing."""
    return probe().network


def isolate() -> bool:
    """Leaves this process, for good, its memory, the clock and standard output: it opens, reads, lists and asks about
    no file, starts no thread, process or program, and reaches no other. False where that does not hold."""
    if sys.platform != "linux":
        return False
    libc = _libc()
    if libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or not _known_processor():
        return False
    machine = os.uname().machine
    return _set_filter(libc, _allowing(_CALLS[machine][0], *_COMPUTING[machine])) and _refuses_files()


def _refuses_files() -> bool:
    try:
        Path("/").stat()
    except PermissionError:
        return True
    return False


def _threads() -> int:
    try:
        return len(list(Path("/proc/self/task").iterdir()))
    except OSError:  # no /proc: Python knows its own threads
        return threading.active_count()


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    # the kernel looks at all 64 bits of each
    libc.prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong]
    return libc


def _known_processor() -> bool:
    return os.uname().machine in _CALLS and ctypes.sizeof(ctypes.c_void_p) == 8


def _landlock_version(libc: ctypes.CDLL) -> int:
    return int(libc.syscall(ctypes.c_long(_CREATE_RULESET), None, ctypes.c_size_t(0), ctypes.c_uint32(1)))


def _confine_files(libc: ctypes.CDLL) -> bool:
    version = _landlock_version(libc)
    if version < 1:
        return False
    handled = (1 << _RIGHTS.get(version, _ALL_RIGHTS)) - 1
    # files; TCP from 4 on; from 6 on abstract sockets and signals to processes outside
    rules = struct.pack("QQQ", handled, 3, 3)[: 24 if version >= 6 else 16 if version >= 4 else 8]
    ruleset = libc.syscall(ctypes.c_long(_CREATE_RULESET), rules, ctypes.c_size_t(len(rules)), ctypes.c_uint32(0))
    if ruleset < 0:
        return False
    try:
        for path, rights in _readable():
            _allow(libc, ruleset, path, rights)
        return int(libc.syscall(ctypes.c_long(_RESTRICT_SELF), ctypes.c_int(ruleset), ctypes.c_uint32(0))) == 0
    finally:
        os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, rights: int) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)  # type: ignore[attr-defined, unused-ignore]
    except OSError:  # not on this system
        return
    try:
        rule = struct.pack("=Qi", rights if path.is_dir() else rights & _READ_FILE, opened)
        libc.syscall(ctypes.c_long(_ADD_RULE), ctypes.c_int(ruleset), ctypes.c_int(1), rule, ctypes.c_uint32(0))
    finally:
        os.close(opened)


def _readable() -> Iterable[tuple[Path, int]]:
    """What an import may need at any time, for libraries load their parts when they use them."""
    package = Path(__file__).resolve().parent
    yield package, _READ_FILE | _READ_DIR
    for entry in filter(os.path.isabs, sys.path):
        folder = Path(entry).resolve()
        # a checkout: beside the package lies what no import needs
        beside = folder == package.parent and folder.name not in ("site-packages", "dist-packages")
        yield folder, _READ_DIR if beside else _READ_FILE | _READ_DIR
    libraries = [e for e in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if Path(e).is_absolute()]
    for name in (*_SYSTEM, f"{sys.base_prefix}/lib", *libraries):
        yield Path(name), _READ_FILE | _READ_DIR


def _confine_network(libc: ctypes.CDLL) -> bool:
    if not _known_processor():
        return False
    name, _, refused = _CALLS[os.uname().machine]
    return _set_filter(libc, _filter(name, refused))


_Steps = list[tuple[int, int, int, int]]
_LOAD, _EQUAL, _AT_LEAST, _GIVE = 0x20, 0x15, 0x35, 0x06


def _set_filter(libc: ctypes.CDLL, steps: _Steps) -> bool:
    code = b"".join(struct.pack("=HBBI", *step) for step in steps)
    held = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HP", len(code) // 8, ctypes.addressof(held))
    call = _CALLS[os.uname().machine][1]
    return int(libc.syscall(ctypes.c_long(call), ctypes.c_uint(1), ctypes.c_uint(_ALL_THREADS), program)) == 0


def _begun(processor: int) -> _Steps:
    """The kernel's small program begins: (operation, steps to jump when true, when false, number)."""
    return [
        (_LOAD, 0, 0, 4),
        # calls in the manner of another processor have other numbers
        (_EQUAL, 1, 0, processor),
        (_GIVE, 0, 0, _REFUSE),
        (_LOAD, 0, 0, 0),
    ]


def _filter(processor: int, refused: tuple[int, ...]) -> _Steps:
    left = len(refused)
    return [
        *_begun(processor),
        (_AT_LEAST, left + 1, 0, _X32),
        *((_EQUAL, left - at, 0, number) for at, number in enumerate(refused)),
        (_GIVE, 0, 0, _ALLOW),
        (_GIVE, 0, 0, _REFUSE),
    ]


def _allowing(processor: int, write: int, allowed: tuple[int, ...]) -> _Steps:
    left = len(allowed)
    return [
        *_begun(processor),
        *((_EQUAL, left - at + 4, 0, number) for at, number in enumerate(allowed)),
        (_EQUAL, 0, 3, write),
        # its first argument, of which the kernel looks at 32 bits
        (_LOAD, 0, 0, 16),
        (_EQUAL, 0, 1, 1),
        (_GIVE, 0, 0, _ALLOW),
        (_GIVE, 0, 0, _REFUSE),
        (_GIVE, 0, 0, _ALLOW),
    ]
