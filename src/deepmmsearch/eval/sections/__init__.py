"""The sections of the report, each a question that the papers or their reviewers asked."""

from __future__ import annotations

from collections.abc import Callable

from deepmmsearch.eval.figures import Results
from deepmmsearch.eval.sections.ablations import ablations, repeated_searches, robustness
from deepmmsearch.eval.sections.accuracy import accuracy, differences, domains, judges, retention, search_need
from deepmmsearch.eval.sections.section import Section, comparisons, main_workflows
from deepmmsearch.eval.sections.tool_use import boxes, costs, failures, tool_use

__all__ = ["Section", "accuracy", "comparisons", "costs", "main_workflows", "sections"]


def sections(results: Results) -> list[Section]:
    """Those that have something to say."""
    makers: list[Callable[[Results], Section | None]] = [
        accuracy,
        costs,
        differences,
        ablations,
        tool_use,
        search_need,
        retention,
        boxes,
        repeated_searches,
        domains,
        robustness,
        judges,
        failures,
    ]
    return [section for make in makers if (section := make(results)) is not None]
