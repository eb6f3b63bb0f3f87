"""Known vulnerabilities, licences and the software bill of materials (SBOM) of what is installed in .venv.

    make audit

Fails for a package with a known vulnerability, and for a licence that licences.toml does not allow. Vulnerabilities are
asked of PyPI, then of OSV; a package that neither knows was not checked, and that is said.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TOOLS = Path(sys.executable).parent
SERVICES = ("pypi", "osv")


def main(python: str, sbom: str) -> int:
    """The exit status; `python`: the interpreter of the environment, `sbom`: where its SBOM is written."""
    licensed = json.loads(_tool("pip-licenses", f"--python={python}", "--format=json", "--with-system", "--from=mixed"))
    refused = refused_licences(licensed, tomllib.loads((HERE / "licences.toml").read_text()))
    print(f"licences: {len(licensed)} packages, {len(refused)} not allowed")
    known = _vulnerabilities(
        {name: package["Version"] for package in licensed if (name := _plain(package["Name"])) != "deepmmsearch"}
    )
    Path(sbom).parent.mkdir(parents=True, exist_ok=True)
    _tool("cyclonedx-py", "environment", "--pyproject", "pyproject.toml", "--of", "JSON", "-o", sbom, python)
    print(f"SBOM: {sbom} (CycloneDX)")
    for problem in (*refused, *known):
        print(problem, file=sys.stderr)
    return 1 if refused or known else 0


def refused_licences(packages: list[dict[str, str]], rules: Mapping[str, Any]) -> list[str]:
    """A sentence for each package whose licence is neither allowed nor its own exception."""
    return [
        f"{package['Name']} {package['Version']} has the licence {package['License']!r}, which "
        "dependencies/licences.toml does not allow. Do without it, or write down there why it may stay."
        for package in packages
        if not allowed(package["License"], rules["allowed"])
        and rules["exceptions"].get(_plain(package["Name"]), {}).get("licence") != package["License"]
    ]


def allowed(licence: str, names: list[str]) -> bool:
    """`AND` and `;` join licences that all hold, `OR` some to choose from; brackets are left to an exception."""
    held = licence.replace(";", " AND ").split(" AND ")
    return all(any(choice.strip() in names for choice in one.split(" OR ")) for one in held)


def vulnerabilities_of(found: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """What pip-audit's JSON says: a sentence for each vulnerability, and the names that were not checked."""
    known = [
        f"{package['name']} {package['version']} has a known vulnerability ({hole['id']}); "
        f"fixed in {', '.join(hole['fix_versions']) or 'no version yet'}."
        for package in found["dependencies"]
        for hole in package.get("vulns", [])
    ]
    return known, [package["name"] for package in found["dependencies"] if "skip_reason" in package]


def _vulnerabilities(versions: Mapping[str, str]) -> list[str]:
    known: list[str] = []
    unchecked = sorted(versions)
    for service in SERVICES:
        # the index knows no builds of a version, such as 2.13.0+cpu
        wanted = [f"{name}=={versions[name].partition('+')[0]}" for name in unchecked]
        listed = TOOLS.parent / "installed.txt"
        listed.write_text("\n".join(wanted) + "\n")
        command = ["pip-audit", "-s", service, "-f", "json", "--no-deps", "--disable-pip", "-r", str(listed)]
        told = subprocess.run([TOOLS / command[0], *command[1:]], capture_output=True, text=True).stdout
        if told:  # nothing where the service cannot be reached
            more, skipped = vulnerabilities_of(json.loads(told))
            known, unchecked = known + more, sorted(map(_plain, skipped))
        if not unchecked:
            break
    print(f"vulnerabilities: {len(versions) - len(unchecked)} of {len(versions)} packages checked, {len(known)} known")
    if unchecked:
        some = ", ".join(unchecked[:5]) + (", ..." if len(unchecked) > 5 else "")
        print(f"not checked, because no data of {' or '.join(SERVICES)} could be had: {some}")
    return known


def _plain(name: str) -> str:
    """As the index compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _tool(name: str, *arguments: str) -> str:
    return subprocess.run([TOOLS / name, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
