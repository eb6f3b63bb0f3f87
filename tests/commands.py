"""Commands as a user gives them."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from deepmmsearch.cli import group


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(group, [str(a) for a in arguments])


def done(*arguments: str | Path) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.output
