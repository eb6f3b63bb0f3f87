"""The six claims of DeepMMSearch-R1 (facts of its tables and figures), each shown or not shown by our own figures.

A claim is shown when the 95 % interval of its difference lies on the claimed side of zero. What was not measured is not
shown. Roles: `trained` is the agent that the claims are about, `prompted` the same kind of model before it learnt the
protocol, `before` and `after` reinforcement learning, `mixes` and `random`, `uniform` agents by training data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from deepmmsearch.eval.figures import Results
from deepmmsearch.eval.played import Keep, everything
from deepmmsearch.eval.sections.section import TESTED, Section, points, tested_cells
from deepmmsearch.eval.statistics import Difference
from deepmmsearch.show.tabulate import Table

MARGIN = 0.05
"""General questions count as kept when the interval excludes a loss of more than this."""


@dataclass(frozen=True)
class Roles:
    """Names of workflows; None where the evaluation has none. `rag`, `direct`: of the trained model; `prompted_rag`,
    `prompted_direct`: of the prompted one. `mixes`: share of search-required training questions -> workflow."""

    trained: str
    rag: str | None = None
    direct: str | None = None
    prompted: str | None = None
    prompted_rag: str | None = None
    prompted_direct: str | None = None
    no_crop: str | None = None
    single_text: str | None = None
    before: str | None = None
    after: str | None = None
    mixes: Mapping[int, str] = field(default_factory=dict)
    random: str | None = None
    uniform: str | None = None


@dataclass(frozen=True)
class Finding:
    """What a figure shows, or does not. `shown` is None where it was not measured: `figure` says what is missing.
    `difference`: what was compared, where something was."""

    text: str
    figure: str
    shown: bool | None
    difference: Difference | None = None

    @property
    def mark(self) -> str:
        return {True: "shown", False: "not shown", None: "not measured"}[self.shown]


@dataclass(frozen=True)
class Claim:
    number: int
    text: str
    findings: tuple[Finding, ...]

    @property
    def shown(self) -> bool:
        return self.mark == "shown"

    @property
    def mark(self) -> str:
        shown = {finding.shown for finding in self.findings}
        if shown == {True}:
            return "shown"
        if shown == {None}:
            return "not shown (not measured)"
        return "not shown" if False in shown else "not shown (measured in part)"


def claims(results: Results, roles: Roles) -> list[Claim]:
    return [
        Claim(1, "The trained agent beats the prompt agent, which beats RAG; RAG hurts where no search is needed.",
              _workflows(results, roles)),
        Claim(2, "Searching with a crop helps.",
              (_better(results, "the agent with crops - without", roles.trained, roles.no_crop, "an ablation"),)),
        Claim(3, "Several text searches help.",
              (_better(results, "several text searches - one", roles.trained, roles.single_text, "an ablation"),)),
        Claim(4, "Half search-required training data are best; uniform over the taxonomy beats random.",
              _mixes(results, roles)),
        Claim(5, "Reinforcement learning makes tool use more selective and refines queries more often.",
              _selective(results, roles)),
        Claim(6, "What the base model could do without search is kept.", (_kept(results, roles),)),
    ]  # fmt: skip


def planned(roles: Roles) -> tuple[tuple[str, str], ...]:
    """The pairs of workflows that the claims are about, in their order; without those that are not played."""
    half = roles.mixes.get(50)
    pairs = (
        (roles.trained, roles.prompted),
        (roles.prompted, roles.prompted_rag),
        (roles.trained, roles.rag),
        (roles.direct, roles.rag),
        (roles.prompted_direct, roles.prompted_rag),
        (roles.trained, roles.no_crop),
        (roles.trained, roles.single_text),
        *((half, name) for share, name in sorted(roles.mixes.items()) if share != 50),
        (roles.uniform, roles.random),
        (roles.after, roles.before),
        (roles.direct, roles.prompted_direct),
    )
    return tuple(dict.fromkeys((one, other) for one, other in pairs if one and other and one != other))


def claim_section(found: list[Claim]) -> Section:
    """All comparisons of the claims are one family of tests."""
    family = [f.difference for claim in found for f in claim.findings if f.difference is not None]
    cells = iter(tested_cells(family))
    rows = []
    for claim in found:
        rows.append([f"{claim.number}. {claim.text}", *[""] * len(TESTED), claim.mark])
        for finding in claim.findings:
            if finding.difference is not None:
                rows.append([f"· {finding.text}", *next(cells), finding.mark])
            else:
                rows.append([f"· {finding.text}: {finding.figure}", *["-"] * len(TESTED), finding.mark])
    note = (
        "Differences in points with 95 % intervals, paired by question. Seeds: how many training runs the figure is "
        "the mean of; with several, the interval is over runs and questions. Shown: the interval lies on the claimed "
        f"side of zero (claim 6: above -{100 * MARGIN:.0f}). p: corrected for {len(family)} comparisons (Holm). "
        "*: below 0.05."
    )
    return Section("The paper's claims", "Each with its own figures.", (Table(["claim", *TESTED, ""], rows, note),))


def _workflows(results: Results, roles: Roles) -> tuple[Finding, ...]:
    def hurts(text: str, direct: str | None, rag: str | None) -> Finding:
        needed = "search-free questions"
        return _better(results, text, direct, rag, needed, lambda row: row.search_required is False)

    pairs = [hurts("direct - RAG, search-free questions", roles.direct, roles.rag)]
    if roles.prompted_rag:
        pairs.append(hurts("the same without training", roles.prompted_direct, roles.prompted_rag))
    return (
        _better(results, "trained agent - prompt agent", roles.trained, roles.prompted, "--model base=FOLDER"),
        _better(results, "prompt agent - RAG, same model", roles.prompted, roles.prompted_rag, "--model base=FOLDER"),
        _better(results, "trained agent - RAG, same model", roles.trained, roles.rag, "a RAG workflow"),
        *pairs,
    )


def _mixes(results: Results, roles: Roles) -> tuple[Finding, ...]:
    found = [
        _better(results, f"half search-required - {share} %", roles.mixes.get(50), name, "--model mix50=FOLDER")
        for share, name in sorted(roles.mixes.items())
        if share != 50
    ]
    missing = "--model mix0=FOLDER and so on: models trained on each mix"
    found = found or [Finding("half search-required - other mixes", f"needs {missing}", None)]
    needed = "--model uniform=FOLDER --model random=FOLDER"
    return (*found, _better(results, "uniform - random taxonomy", roles.uniform, roles.random, needed))


def _selective(results: Results, roles: Roles) -> tuple[Finding, ...]:
    def used(text: str, use: Keep, rises: bool, keep: Keep = everything) -> Finding:
        """How often a tool is used, on the same questions."""
        if roles.before is None or roles.after is None:
            return Finding(text, "needs --model sft=FOLDER --model rl=FOLDER", None)
        found = results.compare(roles.after, roles.before, keep, lambda row: float(use(row)))
        if not found.count:
            return Finding(text, "no such questions", None)
        return Finding(text, _figure(found), found.low > 0 if rises else found.high < 0, found)

    return (
        used("crops, after - before (falls)", lambda r: r.used("crop"), False),
        used("several text searches, after - before (rises)", lambda r: r.several_texts, True),
        used(
            "any search on search-free questions, after - before (falls)",
            lambda r: r.searched > 0, False, lambda r: r.search_required is False,
        ),
    )  # fmt: skip


def _kept(results: Results, roles: Roles) -> Finding:
    """Direct answers on general benchmarks, where there are any, else on questions that need no search."""
    text = "direct answers on general questions, trained - base"
    if roles.direct is None or roles.prompted_direct is None:
        return Finding(text, "needs --model base=FOLDER", None)
    general = {name for name, b in results.benchmarks.items() if b.general}
    found = results.compare(
        roles.direct,
        roles.prompted_direct,
        lambda r: r.benchmark in general if general else r.search_required is False,
    )
    if not found.count:
        return Finding(text, "no such questions", None)
    return Finding(text, _figure(found), found.low > -MARGIN, found)


def _better(
    results: Results,
    text: str,
    first: str | None,
    second: str | None,
    needed: str,
    keep: Keep = everything,
) -> Finding:
    if first is None or second is None:
        return Finding(text, f"needs {needed}", None)
    found = results.compare(first, second, keep)
    if not found.count:
        return Finding(text, f"needs {needed}", None)
    return Finding(text, _figure(found), found.low > 0, found)


def _figure(found: Difference) -> str:
    seeds = "1 seed" if found.seeds == 1 else f"{found.seeds} seeds"
    return f"{points(found.mean)} [{points(found.low)}, {points(found.high)}], {found.count} questions, {seeds}"
