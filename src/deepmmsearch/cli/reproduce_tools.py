"""`deepmmsearch reproduce tools`: what tools beyond two searches, and a second language, bring or cost."""

from __future__ import annotations

import signal
from pathlib import Path

import click

from deepmmsearch.cli.bars import Bars
from deepmmsearch.cli.check import dry_run, ready
from deepmmsearch.console import Console
from deepmmsearch.errors import need


@click.command()
@click.option(
    "--model", "models", multiple=True, metavar="NAME=FOLDER", help="A checkpoint to play too; several may be given."
)
@click.option("--train", is_flag=True, help="Make training worlds and fine-tune the bundled model for the tools first.")
@click.option("--questions", type=click.IntRange(1), default=200, show_default=True, help="Of each kind of world.")
@click.option("--seed", type=int, default=7, show_default=True, help="The world they are about.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/tools"), show_default=True)
@click.option("--concurrency", type=click.IntRange(1, 512), default=32, show_default=True, help="Questions at once.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Training jobs at once.")
@click.argument("overrides", nargs=-1)
@dry_run
def command(
    models: tuple[str, ...],
    train: bool,
    questions: int,
    seed: int,
    out: Path,
    concurrency: int,
    jobs: int,
    overrides: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Play questions that need zoom, visit or a second image search, with each and without it; and the papers'
    questions about the same world in two languages. Prints shares of right answers with bootstrap 95 % intervals.

    The oracle plays, which is the upper bound, and what --model names. With --train the bundled model is fine-tuned
    for the tools (recipes/atlas/sft_tools.yaml, which OVERRIDES change) and plays too. An interrupted run continues
    where it stopped. The tables are written to OUT/tools.md.

    \b
    Example:  deepmmsearch reproduce tools --questions 50
              deepmmsearch reproduce tools --train
    """
    need("Playing worlds", "engine")
    from deepmmsearch.bundled import BUNDLED
    from deepmmsearch.compose.plan import RunPlan
    from deepmmsearch.compose.shipped import shipped_folder
    from deepmmsearch.errors import UserError
    from deepmmsearch.outputs import Output
    from deepmmsearch.reproduce.six_claims import read_models
    from deepmmsearch.reproduce.study import run_jobs
    from deepmmsearch.reproduce.study_check import check_played, check_tool_training
    from deepmmsearch.reproduce.tool_study import ToolTraining, language_table, play, recipes, tool_table
    from deepmmsearch.show.tabulate import console_table, markdown_table

    if overrides and not train:
        raise UserError("Overrides change the fine-tuning, and there is none. Add --train, or leave them out.")
    named = read_models(models) if models else {}
    measured = out / "measured" / f"{seed}-{questions}"
    plan, training = RunPlan(), None
    if train:
        need("Training", "train")
        here = Path("recipes/atlas/sft_tools.yaml")
        recipe = here if here.is_file() else shipped_folder() / "atlas" / "sft_tools.yaml"
        training = ToolTraining(recipe, out, overrides=overrides)
        plan = check_tool_training(training)
        tuned = training.jobs()[-1].result
        named["fine-tuned"] = tuned if tuned.exists() else BUNDLED  # as large as what it becomes
    check_played(plan, recipes(named, questions, seed, measured, concurrency))
    ready(plan, "what tools bring", dry_run)
    # so that training may join what was measured before it
    Output(out, "reproduce tools").claim({})
    if training is not None:
        from deepmmsearch.bundled.more_words import extend
        from deepmmsearch.bundled.sign_stage import teach_signs

        words, start = training.words, training.start

        def begin() -> None:
            extend(words)
            teach_signs(words, start, out / "signs.log.jsonl")

        # as Ctrl-C does, which reaches the jobs by itself
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with Bars() as bars:
            run_jobs(training, jobs, bars, "reproduce tools", begin)
        named["fine-tuned"] = training.jobs()[-1].result
    with Bars() as bars:
        results = play(recipes(named, questions, seed, measured, concurrency), bars)
    console, written = Console(), []
    for title, table in (("Tools", tool_table(results)), ("Languages", language_table(results))):
        console.print(console_table(table, title))
        console.print(f"{table.note}\n", style="dim")
        written += [f"## {title}", "", *markdown_table(table), ""]
    path = out / "tools.md"
    path.write_text("\n".join(written), encoding="utf-8")
    console.print(f"Wrote {path}")
