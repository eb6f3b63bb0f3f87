"""The tables of docs/scale.md: GPUs against questions, and what the experiments of DeepMMSearch-R1 would take.

    python benchmarks/scale_tables.py [--quick] [--measured FOLDER]

Needs: pip install 'deepmmsearch[train]'
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from deepmmsearch.errors import UserError
from scale import Engine, Outcome, Site, evaluation, training
from scale_load import Load, load_defaults, measured

QUESTIONS = (10_000, 100_000, 1_000_000, 10_000_000)
AT_ONCE = 32
TEACHER = Engine(1e9, 100, 1e9)
TEACHER_READ, TEACHER_WRITTEN = 1.25e-6, 10e-6
INFOSEEK, KEPT, EPOCHS, FVQA, GROUP, RL_GPUS = 200_000, 10_000, 3, 5_000, 8, 32
EVALUATED = 2_000 + 2_000 + 1_013 + 715 + 5_046 + 1_145


def split(load: Load, gpus: float) -> Site:
    """So many GPUs, shared between sampling and summarising as an episode uses them."""
    probe = evaluation(load, Site(8, 8, None, None), 64, 256)
    policy, summariser = probe.used["sampler"], probe.used["summariser"]
    own = max(1, round(gpus * policy / (policy + summariser)))
    return Site(own, gpus - own)


def sizes(load: Load, quick: bool) -> None:
    asked = " | ".join(f"{count:,} questions" for count in QUESTIONS)
    print(f"| GPUs: sampler + summariser | searches/s allowed | p50, s | episodes/h | holds up | {asked} |")
    print("|---|---|---|---|---|" + "---|" * len(QUESTIONS))
    for gpus in (8, 32) if quick else (8, 32, 256):
        both = split(load, gpus)
        alone = Site(gpus, None)
        sites = (both, replace(both, text_rate=None, image_rate=None, connections=4096), alone)
        for site in sites[1:] if gpus == 256 else sites:
            at_once = AT_ONCE * gpus
            found = evaluation(load, site, at_once, (1 if quick else 3) * at_once)
            _size(site, found)


def _size(site: Site, found: Outcome) -> None:
    each = found.money / found.episodes
    cells = []
    for count in QUESTIONS:
        hours = count / found.steady
        cells.append(f"{_span(hours)}, ${count * each + hours * site.hourly:,.0f}")
    summarisers = f"{site.summariser_gpus:g}" if site.summariser_gpus else "none"
    rate = f"{site.text_rate:g}" if site.text_rate else "any"
    needed = found.steady / 3600 * found.asked["text_search"] / found.episodes
    print(
        f"| {site.gpus:g} + {summarisers} | {rate} ({needed:.0f} text used) | {found.p50:.0f} | {found.steady:,.0f} | "
        f"{found.bottleneck} | {' | '.join(cells)} |",
        flush=True,
    )


def papers(load: Load) -> None:
    """DeepMMSearch-R1, sections 3 and 4; what it leaves open is named in docs/scale.md."""
    print("| experiment | what | hours | searches, US$ | models and judge, US$ | GPUs, US$ | holds up |")
    print("|---|---|---|---|---|---|---|")
    summarisers = Site(1000, 8, policy=TEACHER)
    found = evaluation(load, summarisers, 512, 1536)
    scale = INFOSEEK / found.episodes
    teacher = scale * (found.tokens["billed"] * TEACHER_READ + found.tokens["written"] * TEACHER_WRITTEN)
    hours = INFOSEEK / found.steady
    _row("data", f"{INFOSEEK:,} episodes of the teacher, 8 GPUs summarise", hours, scale * found.money, teacher,
         hours * 8 * summarisers.gpu_hour, found.bottleneck)  # fmt: skip
    tokens = (found.tokens["read"] + found.tokens["written"]) / found.episodes
    site = Site(8, None)
    hours = KEPT * EPOCHS * tokens * 6 * site.parameters / (site.gpus * site.peak * site.mfu) / 3600
    _row(
        "SFT",
        f"{KEPT:,} rows of {tokens:,.0f} tokens, {EPOCHS} epochs, 8 GPUs",
        hours,
        0,
        0,
        hours * site.hourly,
        "update",
    )
    for prompts, epochs in ((64, 30), (512, 30), (64, 20)):
        site = Site(RL_GPUS, RL_GPUS)
        found = training(load, site, prompts, GROUP, 3 if prompts == 64 else 1)
        scale = FVQA * GROUP / found.episodes  # to one epoch
        hours = epochs * scale * found.seconds / 3600
        prices = {name: tool.price for name, tool in load.tools.items()}
        texts = epochs * scale * found.asked["text_search"] * prices["text_search"]
        # a cassette answers for the pictures from the second epoch on
        searches = texts + scale * found.asked["image_search"] * prices["image_search"]
        judged = epochs * FVQA * GROUP * prices["judge"]
        what = f"{epochs} epochs of {FVQA:,} x {GROUP}, {prompts * GROUP:,} rollouts a round, 32 + 32 GPUs"
        _row("GRPO", what, hours, searches, judged, hours * site.hourly, f"{found.bottleneck} ({_most(found)})")
    site = split(load, 8)
    found = evaluation(load, site, 512, 2048)
    hours, each = EVALUATED / found.steady, found.money / found.episodes
    judged = EVALUATED * load.tools["judge"].price
    what = f"{EVALUATED:,} questions, one system, {site.gpus:g} + {site.summariser_gpus:g} GPUs"
    _row("evaluation", what, hours, EVALUATED * each, judged, hours * site.hourly, found.bottleneck)


def _row(name: str, what: str, hours: float, searches: float, models: float, gpus: float, why: str) -> None:
    print(f"| {name} | {what} | {hours:,.1f} | {searches:,.0f} | {models:,.0f} | {gpus:,.0f} | {why} |", flush=True)


def _most(found: Outcome) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in sorted(found.used.items(), key=lambda i: -i[1])[:2])


def _span(hours: float) -> str:
    return f"{hours * 60:.0f} min" if hours < 1 else f"{hours:,.1f} h" if hours < 72 else f"{hours / 24:,.0f} days"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="8 and 32 GPUs, fewer episodes")
    parser.add_argument("--measured", type=Path, metavar="FOLDER", help="a folder of trajectories or cassettes")
    given = parser.parse_args()
    try:
        load = measured(given.measured, load_defaults()) if given.measured else load_defaults()
    except UserError as error:
        raise SystemExit(f"Error: {error}") from None
    sizes(load, given.quick)
    print()
    papers(load)


if __name__ == "__main__":
    main()
