"""What messages and docstrings tell the user to run exists, with these options and as many arguments."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from deepmmsearch.cli import COMMANDS, group
from deepmmsearch.cli.evaluate import PlayOrMerge

ROOT = Path(__file__).parent.parent
UNSET = getattr(click.core, "UNSET", None)  # what newer versions of click say
# what follows the package's name where no command does; X is filled in when it runs
PROSE = {"again", "cassette", "import", "made", "X", "COMMAND"}
# up to what ends a command in a sentence
COMMAND = re.compile(r"(`?)deepmmsearch (?!--)((?:\\\n|[^`\n.,;)]|(?<=\w)[.,](?=\w)|\.\.\.|\.(?=[/\]]))+)")
SHORT = re.compile(rf"`((?:{'|'.join(COMMANDS)}) [^`\n]+)`")


def strings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every text of a module with its line; what is filled in stands as a word."""
    inside = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inside |= {id(part) for part in node.values}
            yield node.lineno, "".join(str(v.value) if isinstance(v, ast.Constant) else "X" for v in node.values)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.lineno, node.value


def commands() -> Iterator[tuple[str, str, bool]]:
    """Where, which command, and is it only named (in quotes, without arguments)?"""
    for path in sorted((ROOT / "src").rglob("*.py")):
        for line, text in strings(ast.parse(path.read_text(encoding="utf-8"))):
            place = f"{path.relative_to(ROOT / 'src' / 'deepmmsearch')}:{line}"
            for quote, found in COMMAND.findall(text):
                yield place, found.replace("\\\n", " ").strip(), bool(quote)
            for found in SHORT.findall(text):
                yield place, found, True


@pytest.mark.parametrize(("place", "said", "quoted"), list(commands()))
def test_a_command_that_is_named_exists(place: str, said: str, quoted: bool) -> None:
    words = shlex.split(said)
    if words[0] in PROSE:
        return
    command: click.Command = group
    context = click.Context(group)
    while isinstance(command, click.Group) and words:
        found = command.get_command(context, words[0])
        if found is None and command.invoke_without_command:
            break
        if found is None and isinstance(command, PlayOrMerge):
            command = command.commands["play"]
            context = click.Context(command, info_name="eval", parent=context.parent)
            break
        assert found is not None, f"{place}: no command {words[0]!r} in {said!r}"
        command, context = found, click.Context(found, info_name=words.pop(0), parent=context)
    if quoted and (not words or words[0].startswith("-")):
        assert {word.split("=")[0] for word in words if word.startswith("--")} <= {
            option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
        } | {"--help"}, f"{place}: {said!r}"
        return
    try:
        given, left, _ = command.make_parser(context).parse_args(args=words)
    except click.UsageError as error:
        pytest.fail(f"{place}: {said!r}: {error.format_message()}")
    assert not left, f"{place}: {said!r} has too many arguments: {left}"
    for parameter in command.params:
        needed = isinstance(parameter, click.Argument) and parameter.required
        assert not needed or given.get(parameter.name) not in (None, (), UNSET), f"{place}: {said!r}: {parameter.name}?"


def test_messages_are_found() -> None:
    assert len(list(commands())) > 100
