"""Hostile files and processes, counted: damaged files through every reader, and the suite's cases by what is tried.

python benchmarks/reliability.py files             # every reader for 10 s, and the files of others; --quick: 1 s
python benchmarks/reliability.py processes
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

TESTS = Path(__file__).resolve().parent.parent / "tests"
# what is tried -> where the suite tries it: a file, and words of which a test's name has one
Cases = Sequence[tuple[str, str, str]]
FILES: Cases = (
    ("an index of somebody else: links, models, arrays, claims", "test_foreign_index.py", ""),
    ("a store: pictures elsewhere, values of wrong kinds", "test_foreign_store.py", ""),
    ("a cassette: views, journals, values, exported files", "test_foreign_cassette.py", ""),
    ("a recipe: keys of other services", "test_foreign_recipe.py", ""),
    ("questions, conversations, worlds: pictures elsewhere, bad rows", "test_foreign_data.py", ""),
    ("a checkpoint: code, templates, patterns", "test_foreign_checkpoint.py", ""),
    ("names that become folders", "test_owned_files.py", "name or variant or elsewhere"),
    ("files of the user in a command's place", "test_owned_files.py", "not (name or variant or elsewhere)"),
    ("read-only places, read without writing", "test_disk.py", "read or killed or follows"),
    ("full disks, no permission, names that are too long", "test_disk.py", "sentence or words"),
)
PROCESSES: Cases = (
    ("the current folder holds modules of well-known names", "test_children.py", "hostile or folder or import"),
    ("keys in the environment", "test_children.py", "key or handed or home"),
    ("the process that takes files apart: network, files, signals", "test_children.py", "network or files or promised"),
    ("a process is killed, by four signals, at any depth", "test_children.py", "dies or whatever or crashed"),
    ("a writer of an index is killed", "test_engine_crash.py", ""),
    ("git repositories with filters, hooks and monitors", "test_revision.py", ""),
    ("packages: other files, licences, weights", "test_supply_chain.py", ""),
)


def run_files(quick: bool) -> bool:
    """Prints both tables; did everything hold?"""
    held = _damaged(1.0 if quick else 10.0)
    return _counted(FILES) and held


def run_processes() -> bool:
    return _counted(PROCESSES)


def _damaged(seconds: float) -> bool:
    sys.path.insert(0, str(TESTS))
    from fuzzing import fuzz
    from test_fuzz import READERS

    print("| reader | damaged files | read | refused | anything else |\n|---|---|---|---|---|")
    total, other = 0, []
    for name, reader in READERS.items():
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = fuzz(reader, Path(folder) / "fuzz", seconds=seconds, seed=int(time.time()))
            except AssertionError as error:
                other.append(f"{name}: {error}")
                print(f"| {name} | - | - | - | 1 |", flush=True)
                continue
        total += found.total()
        print(f"| {name} | {found.total():,} | {found['read']:,} | {found['refused']:,} | 0 |", flush=True)
    print(f"| all | {total:,} | | | {len(other)} |\n")
    for line in other:
        print(line)
    return not other


def _counted(cases: Cases) -> bool:
    print("| what is tried | cases | held | not on this system |\n|---|---|---|---|")
    ended: dict[str, str] = {}
    for what, file, words in cases:
        found = _suite(file, words)
        if not found:
            raise SystemExit(f"No case of {file} is called {words!r}.")
        print(f"| {what} | {_figures(found)} |", flush=True)
        ended |= found
    print(f"| all, each once | {_figures(ended)} |\n")
    failed = [name for name, how in ended.items() if how == "failed"]
    for name in failed:
        print(f"failed: {name}")
    return not failed


def _figures(ended: Mapping[str, str]) -> str:
    counts = Counter(ended.values())
    return f"{len(ended)} | {counts['held']} | {counts['skipped']}"


def _suite(file: str, words: str) -> dict[str, str]:
    """How each of its cases ended: held, failed or skipped."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", str(TESTS / file)]
        # of this project's own tests alone, which find their keys where they set them
        subprocess.run(
            [*command, *(["-k", words] if words else [])], cwd=TESTS.parent, stdout=subprocess.DEVNULL, env=os.environ
        )
        cases = ElementTree.parse(report).getroot().iter("testcase")
        return {f"{file}: {case.get('name')}": _ended(case) for case in cases}


def _ended(case: ElementTree.Element) -> str:
    kinds = {child.tag for child in case}
    return "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "held"
