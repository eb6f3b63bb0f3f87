"""`deepmmsearch judge`: how well a judge of answers agrees with people."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from deepmmsearch.console import Console
from deepmmsearch.escaping import one_line
from deepmmsearch.streams import echo_json

if TYPE_CHECKING:
    from deepmmsearch.judge import Judge
    from deepmmsearch.judge.calibrate import Agreement


@click.group()
def command() -> None:
    """Judges of answers: rules or a language model, and how well they agree with people.

    \b
    Example:  deepmmsearch judge calibrate
              deepmmsearch judge calibrate labelled.jsonl --base-url http://127.0.0.1:8000/v1
    """


@command.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--rule", metavar="NAME", help="exact, reward, official, …, or module:function.  [default: reward]")
@click.option("--base-url", metavar="URL", help="Let a language model judge: an OpenAI-compatible endpoint.")
@click.option("--proxy", metavar="URL", help="Reach it through this proxy; those of the environment are not used.")
@click.option("--model", metavar="M", help="The endpoint's name for the model.  [default: its only one]")
@click.option(
    "--prompt",
    default="evaluation",
    show_default=True,
    metavar="evaluation|reward",
    help="The rules given to that model.",
)
@click.option("--cassette", type=click.Path(path_type=Path), help="File in which the model's replies are recorded.")
@click.option(
    "--concurrency", type=click.IntRange(1, 256), default=16, show_default=True, help="Requests at the same time."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
@click.option("--show", type=click.IntRange(0), default=10, show_default=True, help="How many disagreements to print.")
def calibrate(
    file: Path | None,
    rule: str | None,
    base_url: str | None,
    proxy: str | None,
    model: str | None,
    prompt: str,
    cassette: Path | None,
    concurrency: int,
    as_json: bool,
    show: int,
) -> None:
    """Measure how well a judge agrees with FILE: JSON lines with question, answers, answer and correct.

    Without FILE, the labelled pairs that come with the package are used; they follow the papers' rules, and some are
    hard. Prints accuracy and Cohen's kappa with 95 % intervals, the confusion matrix, and where the judge is wrong.

    \b
    Example:  deepmmsearch judge calibrate --rule exact
              deepmmsearch judge calibrate labelled.jsonl --base-url http://127.0.0.1:8000/v1 --prompt reward
    """
    from deepmmsearch.errors import UserError
    from deepmmsearch.judge import RuleJudge
    from deepmmsearch.judge import calibrate as agreement

    if rule and base_url:
        raise UserError("Both --rule and --base-url name a judge. Give one of them.")
    rows = agreement.read_labelled(file) if file else agreement.golden()
    judge: Judge = _model(base_url, proxy, model, prompt, cassette) if base_url else RuleJudge(rule or "reward")
    found = asyncio.run(agreement.calibrate(judge, rows, concurrency))
    if as_json:
        echo_json(_as_json(found))
    else:
        _show(Console(), found, show)


def _model(base_url: str, proxy: str | None, model: str | None, prompt: str, cassette: Path | None) -> Judge:
    from deepmmsearch.cli.recipe_file import tell_keys
    from deepmmsearch.compose.judges import LlmJudgeSettings, build_judge
    from deepmmsearch.compose.recipe import read_settings

    row: dict[str, object] = {"model": model, "base_url": base_url, "proxy": proxy, "prompt": prompt}
    if cassette is not None:
        row["recorder"] = {"cassette": cassette}
    settings = read_settings(row, LlmJudgeSettings, "the command line")
    tell_keys(settings)
    return build_judge(settings)


def _as_json(found: Agreement) -> dict[str, object]:
    return {
        "count": found.count,
        "accuracy": found.accuracy,
        "accuracy_interval": found.interval,
        "kappa": found.kappa,
        "kappa_interval": found.kappa_interval,
        "right_called_right": found.right_right,
        "right_called_wrong": found.right_wrong,
        "wrong_called_right": found.wrong_right,
        "wrong_called_wrong": found.wrong_wrong,
        "no_verdict": found.failed,
        "topics": {topic: {"agreed": agreed, "count": count} for topic, (agreed, count) in found.topics.items()},
    }


def _show(console: Console, found: Agreement, shown: int) -> None:
    table = Table("", "called right", "called wrong")
    table.add_row("labelled right", str(found.right_right), str(found.right_wrong))
    table.add_row("labelled wrong", str(found.wrong_right), str(found.wrong_wrong))
    console.print(table)
    failed = f", {found.failed} without a verdict" if found.failed else ""
    low, high = found.interval
    least, most = found.kappa_interval
    console.print(
        f"{found.count} pairs: accuracy {found.accuracy:.1%} [{low:.1%}, {high:.1%}], "
        f"Cohen's kappa {found.kappa:.3f} [{least:.2f}, {most:.2f}]{failed}.",
        soft_wrap=True,
    )
    weak = [f"{t or 'all'} {a}/{n}" for t, (a, n) in sorted(found.topics.items()) if a < n]
    if weak:
        console.print(f"Not in full agreement on: {', '.join(weak)}.")
    for one in found.disagreements[:shown]:
        row = one.labelled
        label = "right" if row.correct else "wrong"
        accepted = " / ".join(row.question.answers)
        said = f"{row.question.text} [{accepted}] {row.answer!r} is {label}; the judge: {one.said}"
        console.print(f"- {one_line(said)}")
