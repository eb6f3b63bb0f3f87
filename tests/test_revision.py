"""The revision of this source tree: read from its own repository alone, of which nothing is run."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from deepmmsearch.revision import revision


def git(folder: Path, *arguments: str) -> str:
    own = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    identity = ("-c", "user.name=me", "-c", "user.email=me@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **own},
    )
    return done.stdout.strip()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A checkout with one commit."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    package = tmp_path / "checkout/src/deepmmsearch"
    package.mkdir(parents=True)
    (package / "agent.py").write_bytes(b"x = 1\ny = 2\n")
    (package.parent.parent / "notes.txt").write_text("beside")
    git(package.parent.parent, "init", "-q")
    git(package, "add", "-A", "../..")
    git(package, "commit", "-q", "-m", "first")
    return package


def test_what_is_committed_and_what_is_changed(package: Path) -> None:
    head = git(package, "rev-parse", "HEAD")
    assert revision(package) == head
    (package.parent.parent / "notes.txt").write_text("not of the package")
    (package / "__pycache__").mkdir()
    (package / "__pycache__/agent.cpython-311.pyc").touch()
    (package / "agent.py").write_bytes(b"x = 1\r\ny = 2\r\n")
    assert revision(package) == head
    (package / "agent.py").write_text("x = 2\n")
    assert revision(package) == f"{head}+changed"
    git(package, "add", "-A")
    assert revision(package) == f"{head}+changed"
    (package / "agent.py").write_bytes(b"x = 1\ny = 2\n")
    (package / "new.py").touch()
    assert revision(package) == f"{head}+changed"
    (package / "new.py").unlink()
    (package / "agent.py").unlink()
    assert revision(package) == f"{head}+changed"


def test_nothing_that_the_repository_configures_is_run(package: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {mark}\ncat\n")
    program.chmod(0o755)
    head = git(package, "rev-parse", "HEAD")
    for name in ("core.fsmonitor", "filter.mine.clean", "filter.mine.process", "core.pager", "core.sshCommand"):
        git(package, "config", name, str(program))
    (package.parent.parent / ".git/hooks/post-index-change").write_text(program.read_text())
    (package.parent.parent / ".git/hooks/post-index-change").chmod(0o755)
    (package.parent.parent / ".git/info/attributes").write_text("*.py filter=mine\n")
    os.utime(package / "agent.py", (1, 1))
    assert revision(package) == head
    assert not mark.exists()
    # what was done before
    subprocess.run(["git", "-C", str(package), "status", "--porcelain", "."], capture_output=True)
    assert mark.exists(), "the trap works"


def test_a_strangers_repository_is_not_asked(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = package.parent.parent / ".venv/lib/python3.11/site-packages/deepmmsearch"
    installed.mkdir(parents=True)
    assert revision(installed) == ""
    # neither the current folder's nor the one that a variable names
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    monkeypatch.chdir(other)
    head = git(package, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert revision(package) == head


def test_a_repository_above_is_not_asked_for_one_that_is_damaged(package: Path) -> None:
    root = package.parent.parent
    git(root.parent, "init", "-q")
    git(root.parent, "add", "-A")
    git(root.parent, "commit", "-q", "-m", "of somebody else")
    shutil.rmtree(root / ".git")
    (root / ".git").mkdir()
    assert revision(package) == ""


def test_git_is_not_taken_from_the_current_folder(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "git").write_text(f"#!/bin/sh\ntouch {tmp_path / 'ran'}\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", os.pathsep.join(["", ".", os.environ["PATH"]]))
    assert revision(package) and not (tmp_path / "ran").exists()
    monkeypatch.setenv("PATH", ".")
    assert revision(package) == ""
