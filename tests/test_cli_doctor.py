"""`deepmmsearch doctor`: complete enough for a bug report, and nothing secret in it."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from commands import done, run
from deepmmsearch import __version__
from endpoints import endpoint, said

SECRET = "sk-proj-0123456789abcdef"
Facts = dict[str, dict[str, tuple[str, bool]]]


@pytest.fixture(autouse=True)
def config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("DEEPMMSEARCH_CONFIG", str(tmp_path / "config.toml"))
    # torch is asked in a process of its own, which takes seconds; here there is none to ask
    monkeypatch.setattr("deepmmsearch.cli.doctor.find_spec", lambda name: None)
    return tmp_path / "config.toml"


def facts(*options: str, code: int = 0) -> Facts:
    result = run("doctor", "--json", *options)
    assert result.exit_code == code, result.output
    return {
        section: {row["name"]: (row["value"], row["ok"]) for row in rows}
        for section, rows in json.loads(result.stdout).items()
    }


def test_versions_extras_disk_and_what_is_missing() -> None:
    found = facts()
    assert found["versions"]["deepmmsearch"] == (__version__, True)
    assert found["versions"]["python"][0] == sys.version.split()[0]
    assert "pypdfium2" in found["extras"]["engine"][0] and not {"all", "dev", "bench"} & set(found["extras"])
    for extra, (value, ok) in found["extras"].items():
        assert ok or f"pip install 'deepmmsearch[{extra}]'" in value
    assert found["gpu"]["torch"] == ("not installed: pip install 'deepmmsearch[local]'", False)
    assert set(found["disk"]) == {"here", "temporary", "hub cache"} and "GB free" in found["disk"]["here"][0]
    text = done("doctor")
    assert all(f"  {name} " in text for section in found.values() for name in section)


def test_a_key_is_named_and_never_shown(monkeypatch: pytest.MonkeyPatch, config: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.delenv("SERPER_API_KEY", raising=False)
    monkeypatch.setenv("DEEPMMSEARCH_BASE_URL", f"http://me:{SECRET}@127.0.0.1:9/v1?key={SECRET}")
    config.write_text(f'api_key = "{SECRET}"\n')
    found = facts("--check", code=1)
    assert found["keys"]["OPENAI_API_KEY"] == ("set", True) and found["keys"]["SERPER_API_KEY"] == ("not set", False)
    assert "api_key holds a key" in found["defaults"]["file"][0]
    config.unlink()
    found = facts("--check", code=1)
    assert found["defaults"]["base_url"][0] == "http://127.0.0.1:9/v1?key=***, from the variable DEEPMMSEARCH_BASE_URL"
    assert "Nothing answers" in found["endpoint"]["base_url"][0]
    assert SECRET not in json.dumps(found) and SECRET not in run("doctor", "--check").output


def test_defaults_where_they_come_from_and_what_is_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done("config", "set", "model", "vlm")
    done("config", "set", "index", str(tmp_path / "gone"))
    (tmp_path / "web.yaml").write_text("text: [serper]\n")
    done("config", "set", "tools", str(tmp_path / "web.yaml"))
    monkeypatch.delenv("SERPER_API_KEY", raising=False)
    monkeypatch.setenv("DEEPMMSEARCH_SAVE", "asked")
    found = facts()["defaults"]
    assert found["model"] == (f"vlm, from {tmp_path / 'config.toml'}", True)
    assert found["save"] == ("asked, from the variable DEEPMMSEARCH_SAVE", True)
    assert not found["tools"][1] and "Set SERPER_API_KEY" in found["tools"][0]
    assert not found["index"][1] and "does not exist" in found["index"][0]
    assert found["base_url"] == ("not set", True)


def test_the_endpoint_is_asked_only_with_check(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "nothing to check" in facts("--check", code=1)["endpoint"]["base_url"][0]
    with endpoint(lambda _: said("x")) as server:
        monkeypatch.setenv("DEEPMMSEARCH_BASE_URL", server.url)
        assert facts("--check")["endpoint"]["base_url"] == (f"{server.url} answers, for the model vlm", True)
    assert "endpoint" not in facts()
    assert facts("--check", code=1)["endpoint"]["base_url"][0].startswith("Nothing answers at")


def test_torch_is_asked_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr("deepmmsearch.cli.doctor.find_spec", find_spec)
    value, ok = facts()["gpu"]["torch"]
    assert ok and value.startswith(f"{torch.__version__}, ")
    monkeypatch.setattr("deepmmsearch.cli.doctor.describe_devices", broken_driver)
    value, ok = facts()["gpu"]["torch"]
    assert not ok and "cannot be used: OSError: the driver is broken" in value


def broken_driver() -> str:
    raise OSError("the driver is broken")
