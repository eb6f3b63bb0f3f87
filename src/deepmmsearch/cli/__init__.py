"""The command line: one file per command group, loaded only when asked for."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, NoReturn

import click

from deepmmsearch import __version__
from deepmmsearch.cli import defaults
from deepmmsearch.disk import refusal
from deepmmsearch.errors import Failed, UnknownName, UserError
from deepmmsearch.redaction import without_secrets
from deepmmsearch.streams import echo, flush_output, guard_streams, guarded_streams

SECTIONS = {
    "Ask": {
        "ask": ("ask", "Ask a question about a picture; each turn is shown as it happens."),
        "show": ("show", "List stored questions; show one of them turn by turn, token by token or as JSON."),
        "config": ("config", "Your own defaults for model, endpoint, tools and index."),
        "doctor": ("doctor", "Show what is installed, configured and reachable here; for bug reports."),
        "demo": ("demo", "Make an invented world, index it, and watch the bundled model answer questions about it."),
    },
    "Serve": {
        "serve": ("serve", "A page to ask in, an OpenAI-compatible model and an MCP server, from one process."),
        "mcp": ("mcp", "The MCP server over standard input and output, for a host on this machine."),
        "keys": ("keys", "Who may ask a server, and how much."),
    },
    "Search": {
        "index": ("index", "Build, change, search and serve an index of your own documents and pictures."),
        "tools": ("tools", "The search providers: what each needs and costs; check one with a real call."),
        "cache": ("cache", "Recorded tool calls: show, export, import, merge and prune a cassette."),
    },
    "Questions and training sets": {
        "data": ("data", "Benchmarks and your own questions; build training sets; convert between formats."),
        "atlas": ("atlas", "Make invented worlds and their questions; let the oracle play them."),
    },
    "Recipes": {
        "recipes": ("recipes", "The recipes that come with the package: list, show and copy them."),
        "check": ("check", "What a recipe is missing, what it will make, and what it takes; nothing is written."),
    },
    "Measure": {
        "eval": ("evaluate", "Play workflows over benchmarks, judge the answers, and write the tables."),
        "report": ("report", "Tables and a gallery of one or more evaluations, as one page."),
        "reproduce": ("reproduce", "Reproduce the papers' tables and training curves on invented worlds."),
        "dialects": ("dialects", "How the field's checkpoints speak; bring the prompts they were trained with."),
        "judge": ("judge", "Measure how well a judge of answers agrees with people."),
    },
    "Train": {
        "sft": ("sft", "Supervised fine-tuning on trajectories."),
        "grpo": ("grpo", "Reinforcement learning (GRPO) with live tools."),
        "merge": ("merge", "Merge a LoRA adapter into its model."),
        "pretrain": ("pretrain", "Train the small bundled model's base from scratch."),
    },
}
COMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


class LazyGroup(click.Group):
    def main(self, *args: Any, **kwargs: Any) -> Any:
        # click itself says what is wrong with an option
        with guarded_streams():
            return super().main(*args, **kwargs)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"deepmmsearch.cli.{COMMANDS[name][0]}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise UnknownName("command", args[0], COMMANDS)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # the same column for all sections
        width = max(map(len, COMMANDS))
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), text) for name, (_, text) in commands.items()])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@click.pass_context
def group(context: click.Context) -> None:
    """Answers to questions about pictures: the model decides what to look up, with which tool, and when to stop.

    \b
    Example:  deepmmsearch demo
              deepmmsearch ask picture.png "What is the capital of the country whose flag is on the ship?"

    Every command and subcommand has --help with an example. Exit codes: 0 done or answered, 1 not answered or failed,
    2 something that you have to correct, 130 interrupted.
    """
    # a file that cannot be read must not keep `config` and `doctor` from saying so
    if context.invoked_subcommand in ("ask", "show", "index"):
        context.default_map = defaults.default_map()


def main() -> None:
    """Entry point: what the user has to know is one sentence on stderr, with the error's exit code."""
    guard_streams()
    try:
        group.main(standalone_mode=False)
        # here and not when the interpreter ends, where nobody could say it in a sentence
        flush_output()
    except UserError as error:
        _exit(error)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        echo("Interrupted.", err=True)
        sys.exit(130)
    except Exception as error:
        if (told := refusal(error)) is None:
            raise
        _exit(Failed(told))


def _exit(error: UserError) -> NoReturn:
    try:
        flush_output()
    except OSError:
        # it is full itself, and would be flushed again when the interpreter ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    # so that no line of a text that it quotes looks like one of ours
    echo(f"Error: {without_secrets(str(error))}".replace("\n", "\n  "), err=True)
    sys.exit(error.exit_code)
