"""`deepmmsearch reproduce`: the papers' tables and curves on invented worlds. Each command is a file of its own."""

from __future__ import annotations

import importlib

import click

from deepmmsearch.errors import UnknownName

COMMANDS = {
    "eval": ("reproduce_eval", "Table 1 and the six claims on a world that no model has seen."),
    "tools": ("reproduce_tools", "What zoom, visit, a second image search and a second language bring."),
    "train": ("reproduce_train", "The training curves: base, SFT, RL."),
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            raise UnknownName("command of reproduce", name, COMMANDS)
        command: click.Command = importlib.import_module(f"deepmmsearch.cli.{COMMANDS[name][0]}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(cls=_Commands)
def command() -> None:
    """Reproduce the papers' tables and curves on invented worlds, on this machine.

    \b
    Example:  deepmmsearch reproduce eval --questions 50
              deepmmsearch reproduce train --help
    """
