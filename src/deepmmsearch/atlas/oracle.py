"""The perfect player: follows the question's plan, but reads every fact from what the tools return.

It never looks into the world. Where the tools fail it, it fails too: its accuracy is an upper bound for any agent with
these tools, and its trajectories are honest teaching material.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from deepmmsearch.agent.dialect import write_turn
from deepmmsearch.atlas import velic
from deepmmsearch.atlas import wordings as say
from deepmmsearch.atlas.annals import DEEDS
from deepmmsearch.atlas.names import FAMOUS
from deepmmsearch.atlas.questions import Plan
from deepmmsearch.atlas.tool_oracle import GIVE_UP, look_closer, name_both, read_annals
from deepmmsearch.atlas.world import TONGUES, Tongue
from deepmmsearch.types import Action, Answer, Completion, ImageSearch, TextSearch, Trajectory

_SHOWN = re.compile(r"\] (match|similar): (?:The (?:flag|portrait|building) of (\w+)|(\w+) (?:flag|portrait|building))")
_WHAT = {"flag": "flag", "building": "building", "person": "portrait"}


def read_picture(text: str) -> str | None:
    """The name an image search gives: the first match, else the most similar."""
    shown = [(kind, a or b) for kind, a, b in _SHOWN.findall(text)]
    return next((name for kind, name in shown if kind == "match"), shown[0][1] if shown else None)


def read_fact(text: str, relation: str, entity: str) -> str | None:
    """The value of a fact stated in one of the wordings to be believed; former facts and rumours are not."""
    name = re.escape(entity)
    patterns = [
        rf"\bThe {relation} of {name} is (\w+(?: metres)?)\.",
        rf"\b(\w+(?: metres)?) is the {relation} of {name}\.",
        rf"\b{name} has the {relation} (\w+(?: metres)?)\.",
    ]
    if relation == "currency":
        patterns.append(rf"\bIn the economy of {name} people pay with (\w+)\.")
    return next((found.group(1) for p in patterns if (found := re.search(p, text))), None)


class Read:
    """What an episode has shown so far, as English, and in which languages to go on asking."""

    def __init__(self, trajectory: Trajectory) -> None:
        self._trajectory = trajectory
        seen = [turn.observation.text for turn in trajectory.turns if turn.observation]
        self.observed = velic.read("\n".join(seen))
        last = trajectory.turns[-1].observation if trajectory.turns else None
        self.latest = velic.read(last.text) if last else ""
        self._asked = {t.action.query for t in trajectory.turns if isinstance(t.action, TextSearch)}
        self._tongues = self._spoken(seen)

    def _spoken(self, seen: Sequence[str]) -> tuple[Tongue, ...]:
        """The pages' language where they were seen, else the question's, then the other."""
        question = self._trajectory.question
        if "asked_in" not in question.metadata:
            return ("english",)
        if any(velic.tongue_of(text) == "velic" for text in seen):
            return ("velic",)
        own = velic.tongue_of(question.text)
        if any(turn.observation and turn.observation.hits for turn in self._trajectory.turns):
            return ("english",)
        return (own, *(tongue for tongue in TONGUES if tongue != own))

    def picture(self, text: str) -> str | None:
        return read_picture(velic.read(text))

    def search(self, reason: str, query: str) -> tuple[str, Action] | None:
        """Asks for it in a language in which it was not asked for yet; None where there is none."""
        for tried, tongue in enumerate(self._tongues):
            if (said := velic.say(tongue, query)) not in self._asked:
                return say.REASON_OTHER_LANGUAGE if tried else reason, TextSearch(said)
        return None


def decide(trajectory: Trajectory) -> tuple[str, Action]:
    """The reason and the action of the next turn."""
    plan = Plan.from_dict(dict(trajectory.question.metadata["plan"]))
    reason, action = _decide(plan, trajectory)
    if isinstance(action, Answer) and action.text != say.GIVE_UP:
        return reason, Answer(velic.say(velic.tongue_of(trajectory.question.text), action.text))
    return reason, action


def _decide(plan: Plan, trajectory: Trajectory) -> tuple[str, Action]:
    direct = trajectory.prompt.name.endswith("direct")
    if plan.look:
        return plan.look[1], Answer(plan.look[0])
    if plan.by_heart:
        return _by_heart(plan)
    if direct:
        return "I do not know.", Answer(say.GIVE_UP)
    read = Read(trajectory)
    if plan.sign:
        return look_closer(plan, trajectory)
    if plan.second:
        return name_both(plan, trajectory, read)
    if set(plan.relations) & set(DEEDS):
        return read_annals(plan, trajectory, read)
    reasons: list[str] = []
    name = plan.entity
    if plan.start:
        looked = [t for t in trajectory.turns if isinstance(t.action, ImageSearch) and t.observation]
        if not looked:
            if plan.start == "flag":
                # Even a single flag is only a twentieth of the scene: its crop is found faster and more surely.
                return say.reason_look(plan.flags, plan.carrier), ImageSearch(say.region(plan.carrier))
            return say.reason_picture(plan.start), ImageSearch()
        shown = read.picture(looked[0].observation.text if looked[0].observation else "")
        if shown is None:
            return say.REASON_GIVE_UP, Answer(say.GIVE_UP)
        name = shown
        if isinstance(trajectory.turns[-1].action, ImageSearch):
            reasons.append(say.reason_shows(_WHAT[plan.start], name))
    return _follow(plan, read, name, reasons)


def _by_heart(plan: Plan) -> tuple[str, Action]:
    reasons = [f"I know the flag of {plan.entity}."] if plan.start else []
    answer = plan.entity
    for relation in plan.relations:
        answer = FAMOUS[plan.entity][relation]
        reasons.append(say.reason_fact(relation, plan.entity, answer))
    return " ".join(reasons), Answer(answer)


def _follow(plan: Plan, read: Read, name: str, reasons: list[str]) -> tuple[str, Action]:
    """Goes along the chain of relations as far as the observations carry, then asks for the next fact."""
    for relation in plan.relations:
        value = read_fact(read.observed, relation, name)
        if value is not None:
            if read_fact(read.latest, relation, name) is not None:
                reasons.append(say.reason_fact(relation, name, value))
            name = value
            continue
        need = " ".join([*reasons, say.reason_need(relation, name)])
        asking = read.search(need, say.query(relation, name))
        if asking is None and relation == "currency":
            asking = read.search(say.reason_again(relation, name), say.query("economy", name))
        return asking or GIVE_UP
    return " ".join(reasons), Answer(name)


class OraclePolicy:
    """Policy: writes the perfect player's turns in the prompt's dialect."""

    async def act(self, trajectory: Trajectory) -> Completion:
        reason, action = decide(trajectory)
        return Completion(write_turn(reason, action, trajectory.prompt.dialect))
