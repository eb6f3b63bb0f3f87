"""Installs this project into the environment that runs this: every package as the lock says, by its sha256.

    python dependencies/install.py dependencies/run.txt 'torch==2.13.0' '.[local,engine]'

torch is installed apart and by its version only, because its builds (CPU, CUDA, ROCm) are different files of one
version. Where the index has no such files for this Python and platform, the bounds of pyproject.toml are used instead,
and that is said; a file that is not the locked one stops everything.
"""

from __future__ import annotations

import subprocess
import sys

_PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
_INSTALL = (*_PIP, "install", "--quiet")
_OTHER_FILE = "DO NOT MATCH THE HASHES"
_NO_FILE = ("No matching distribution found", "Could not find a version that satisfies")


def main(lock: str, torch: str, project: str) -> int:
    """The exit status."""
    found = subprocess.run(
        [*_INSTALL, "--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", lock],
        stderr=subprocess.PIPE,
        text=True,
    )
    sys.stderr.write(found.stderr)
    if found.returncode == 0:
        return (
            _run(*_INSTALL, torch) or _run(*_INSTALL, "--no-deps", "--no-build-isolation", "-e", project) or _checked()
        )
    if _OTHER_FILE in found.stderr:
        return _failed(
            f"A file of the index is not the one in {lock}. Nothing more was installed. Do not go on with it."
        )
    if not any(text in found.stderr for text in _NO_FILE):
        return _failed("The packages could not be installed; what pip said stands above.")
    tag = f"Python {sys.version_info.major}.{sys.version_info.minor} on {sys.platform}"
    _failed(f"{lock} cannot be used for {tag}: packages come unchecked, within the bounds of pyproject.toml.")
    return _run(*_INSTALL, torch) or _run(*_INSTALL, "-e", project)


def _checked() -> int:
    found = subprocess.run([*_PIP, "check"], stdout=subprocess.PIPE, text=True)
    if found.returncode:
        return _failed(f"{found.stdout}The lock does not have what pyproject.toml asks for. Renew it with: make lock")
    return 0


def _run(*command: str) -> int:
    return subprocess.run(command).returncode


def _failed(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
