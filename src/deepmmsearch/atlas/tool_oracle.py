"""The perfect player's ways with more tools: to look closer, to read on, to search a picture twice."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deepmmsearch.agent.table import find_tool
from deepmmsearch.atlas import wordings as say
from deepmmsearch.atlas.annals import DEEDS
from deepmmsearch.types import Action, Answer, ImageSearch, TextSearch, Trajectory, Turn, Use

if TYPE_CHECKING:
    from deepmmsearch.atlas.oracle import Read
    from deepmmsearch.atlas.questions import Plan

_PART = re.compile(r"Part (\d+) of (\d+) of:")
_LINK = re.compile(r"\[(\d+)\] link: second volume", re.IGNORECASE)
GIVE_UP = (say.REASON_GIVE_UP, Answer(say.GIVE_UP))


def look_closer(plan: Plan, trajectory: Trajectory) -> tuple[str, Action]:
    """At a sign that is too small. What it shows is told to the oracle, which cannot see, once it was shown."""
    if not trajectory.turns:
        arguments = {"region": say.region(plan.carrier)}
        return say.reason_zoom(plan.carrier), find_tool("zoom").accept(arguments)
    if not _succeeded(trajectory.turns[-1]):
        return GIVE_UP
    return say.reason_sign(plan.sign), Answer(plan.sign)


def name_both(plan: Plan, trajectory: Trajectory, read: Read) -> tuple[str, Action]:
    """The countries of two flags, each searched by itself."""
    turns = [turn for turn in trajectory.turns if isinstance(turn.action, ImageSearch)]
    names = [read.picture(turn.observation.text) if _succeeded(turn) and turn.observation else None for turn in turns]
    if None in names:
        return GIVE_UP
    found = [name for name in names if name is not None]
    if not found:
        return say.reason_look(plan.flags, plan.carrier), ImageSearch(say.region(plan.carrier))
    shown = say.reason_shows("flag", found[-1])
    if len(found) == 1:
        return f"{shown} {say.reason_other(plan.second)}", ImageSearch(say.region(plan.second))
    return shown, Answer(say.both(*found))


def read_annals(plan: Plan, trajectory: Trajectory, read: Read) -> tuple[str, Action]:
    """Finds a country's annals, opens them, and reads on until they tell what is asked for."""
    country, relation = plan.entity, plan.relations[0]
    visit = find_tool("visit")
    last = trajectory.turns[-1] if trajectory.turns else None
    if last is None or isinstance(last.action, TextSearch):
        found = re.search(rf"^\[(\d+)\] .*\bannals of {country}\b", read.latest, re.MULTILINE | re.IGNORECASE)
        if found is not None:
            return say.reason_open(country), visit.accept({"hit": int(found[1])})
        return read.search(say.reason_need("annals", country), say.query("annals", country)) or GIVE_UP
    if not (isinstance(last.action, Use) and _succeeded(last)):
        return GIVE_UP
    deed = re.search(DEEDS[relation].replace("{}", r"\b(\w+)").replace(".", r"\."), read.latest)
    if deed is not None:
        return say.reason_fact(relation, country, deed[1]), Answer(deed[1])
    if relation == "patron" and (link := _LINK.search(read.latest)):
        return say.REASON_LINK, visit.accept({"link": int(link[1])})
    part = _PART.search(read.latest)
    if part is None or int(part[1]) >= int(part[2]):
        return GIVE_UP
    return say.REASON_READ_ON, visit.accept({"part": int(part[1]) + 1})


def _succeeded(turn: Turn) -> bool:
    return turn.observation is not None and turn.observation.error is None
