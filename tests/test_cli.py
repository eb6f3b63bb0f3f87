"""The command line as a whole: what the help lists, how a command ends."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import pytest

from commands import done, run
from deepmmsearch import cli
from deepmmsearch.cli import COMMANDS, SECTIONS
from deepmmsearch.errors import UserError


def test_the_help_lists_every_command_by_section_and_the_exit_codes() -> None:
    text = done("--help")
    for section, commands in SECTIONS.items():
        below = text.split(f"\n{section}:\n")[1].split("\n\n")[0]
        for name in commands:
            assert f"\n  {name} " in f"\n{below}", (section, name)
    assert len(COMMANDS) == sum(map(len, SECTIONS.values()))
    for code in ("0 done", "1 not answered or failed", "2 something that you have to correct", "130 interrupted"):
        assert code in " ".join(text.split())


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (UserError("No such folder."), 2, "Error: No such folder.\n"),
        (click.UsageError("No such option."), 2, "No such option."),
        (KeyboardInterrupt(), 130, "Interrupted.\n"),
    ],
)
def test_how_a_command_ends(
    raised: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise raised

    monkeypatch.setattr(cli.group, "main", fail)
    monkeypatch.setattr(sys, "argv", ["deepmmsearch"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (code, "") and said in err


def test_what_is_not_installed_is_named_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for module in ("tantivy", "transformers", "trl"):
        monkeypatch.setitem(sys.modules, module, None)
    for arguments, extras in (
        (("demo",), "local,engine"),
        (("demo", "--policy", "oracle"), "engine"),
        (("atlas", "teach", "--out", "lessons"), "engine"),
        (("sft", "atlas/sft"), "train"),
        (("grpo", "atlas/grpo"), "train"),
        (("pretrain", "atlas/base"), "train"),
        (("merge", "model", "adapter", "merged"), "train"),
        (("reproduce", "train"), "engine,train"),
    ):
        error = run(*arguments).exception
        assert isinstance(error, UserError), (arguments, error)
        assert f"pip install 'deepmmsearch[{extras}]'" in str(error), (arguments, error)
    assert list(tmp_path.iterdir()) == []
