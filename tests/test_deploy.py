"""The files of deploy/: what they name is there, and what docs/serve.md says of them holds."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"


def instructions(path: Path) -> list[tuple[str, str]]:
    """Of a Containerfile, with lines that go on in the next one joined."""
    text = re.sub(r"\\\n", " ", path.read_text(encoding="utf-8"))
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines]


def test_the_container_is_built_of_what_there_is_and_runs_without_rights() -> None:
    steps = instructions(DEPLOY / "Containerfile")
    extras = re.findall(r"'\.\[([\w,]+)\]'", " ".join(text for _, text in steps))
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert extras and set(extras[0].split(",")) <= set(known)
    last = dict(steps)
    assert last["USER"] == "deepmmsearch" and last["WORKDIR"] == last["VOLUME"] == "/data"
    assert "/health" in last["HEALTHCHECK"]
    program, *command = [*json.loads(last["ENTRYPOINT"]), *json.loads(last["CMD"])]
    assert program == "deepmmsearch" and "8400" in last["EXPOSE"]
    # it is understood up to the recipe, which is not here
    told = subprocess.run([sys.executable, "-P", "-m", program, *command], capture_output=True, text=True, check=False)
    assert told.returncode == 2 and "/etc/deepmmsearch/serve.yaml" in told.stderr


def test_compose_keeps_the_container_closed() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    served = compose["services"]["deepmmsearch"]
    built = (DEPLOY / served["build"]["context"]).resolve()
    assert (built / served["build"]["dockerfile"]).is_file() and (built / "pyproject.toml").is_file()
    assert served["read_only"] and served["cap_drop"] == ["ALL"] and "no-new-privileges:true" in served["security_opt"]
    assert all(port.startswith("127.0.0.1:") for port in served["ports"])
    assert set(served["depends_on"]) <= set(compose["services"])
    named = [volume.split(":")[0] for each in compose["services"].values() for volume in each["volumes"]]
    assert {name for name in named if not name.startswith("./")} == set(compose["volumes"])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "deepmmsearch.service"
    text = (DEPLOY / "deepmmsearch.service").read_text(encoding="utf-8")
    unit.write_text(text.replace("/opt/deepmmsearch/bin/deepmmsearch", shutil.which("true") or ""), encoding="utf-8")
    told = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert told.returncode == 0 and "Unknown" not in told.stderr, told.stderr
