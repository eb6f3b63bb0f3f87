"""Turns without form, where somebody waits for an answer; and never where the form is scored."""

from __future__ import annotations

import asyncio

import pytest
from PIL import Image

from data_players import FakeTools
from deepmmsearch.agent.dialect import Forgiving, find_dialect, thoughts_of
from deepmmsearch.agent.loop import episode
from deepmmsearch.agent.table import installed_tools
from deepmmsearch.agent.toolbox import Toolbox
from deepmmsearch.compose.asking import Agent
from deepmmsearch.compose.policies import ChatPolicySettings, build_policy, prompt_to_ask
from deepmmsearch.policies.chat import ChatPolicy, EndpointError
from deepmmsearch.policies.human import HumanPolicy
from deepmmsearch.prompts import load_prompt
from deepmmsearch.settings import EndpointSettings
from deepmmsearch.testing import ScriptedPolicy
from deepmmsearch.types import (
    Action,
    Answer,
    Completion,
    ImageSearch,
    Limits,
    Malformed,
    Question,
    TextSearch,
    Trajectory,
)
from endpoints import as_json, endpoint, said

SEARCH = "<reason>I look.</reason><text_search>capital of Veld</text_search>"


def forgiven(text: str) -> Action | None:
    dialect = find_dialect("deepmmsearch-r1")
    assert isinstance(dialect, Forgiving)
    return dialect.forgive(text, installed_tools())


@pytest.mark.parametrize(
    ("text", "action"),
    [
        (f"```xml\n{SEARCH}\n```", TextSearch("capital of Veld")),
        (f"~~~\n{SEARCH}", TextSearch("capital of Veld")),
        (f"Sure, here it is.\n{SEARCH}", TextSearch("capital of Veld")),
        (f"{SEARCH}\nI hope that this helps.", TextSearch("capital of Veld")),
        (f"{SEARCH}<answer>Oru</answer>", TextSearch("capital of Veld")),
        (f"{SEARCH}<information>Oru</information>", TextSearch("capital of Veld")),
        ("I know it. <answer>Oru</answer>", Answer("Oru")),
        ("<answer>Oru</answer>", Answer("Oru")),
        ("<answer>Oru", Answer("Oru")),
        ("<reason></reason><answer>Oru</answer>", Answer("Oru")),
        ("<reason>not closed <img_search><img></img_search>", ImageSearch()),
        ("&lt;reason&gt;I know.&lt;/reason&gt;&lt;answer&gt;Oru&lt;/answer&gt;", Answer("Oru")),
        ("<think><answer>Tan</answer></think><answer>Oru</answer>", Answer("Oru")),
        ("<answer></answer>", None),
        ("Oru", None),
        ("", None),
        ("<reason>I know.</reason>", None),
    ],
)
def test_the_first_action_counts_whatever_stands_around_it(text: str, action: Action | None) -> None:
    assert forgiven(text) == action


def played(*script: str | Completion, lenient: bool = True) -> Trajectory:
    start = Trajectory(Question("q", "What is it?", (Image.new("RGB", (8, 8)),)), load_prompt("deepmmsearch-r1"))

    async def last() -> Trajectory:
        turns = episode(start, ScriptedPolicy(*script), Toolbox(), Limits(calls=3), lenient=lenient)
        return [t async for t in turns][-1]

    return asyncio.run(last())


def test_words_alone_are_the_answer_the_second_time() -> None:
    assert played("It is Oru.", "It is Oru, I said.").turns[-1].action == Answer("It is Oru, I said.", formed=False)
    # a malformed call is not an answer
    broken = "<reason>I look.<text_search></text_search>"
    assert played("It is Oru.", broken, broken, broken).answer is None
    assert played(*["It is Oru."] * 4, lenient=False).answer is None


def test_a_turn_that_was_cut_is_not_guessed() -> None:
    assert played(Completion("Sure! <answer>Or", finish="length")).answer is None
    assert played(Completion("Sure! <answer>Or", finish="filter")).stop == "filter"


def test_thoughts_are_no_action_and_are_kept() -> None:
    turn = Completion("<think>maybe <answer>Tan</answer></think>\n<reason>I know.</reason><answer>Oru</answer>")
    last = played(turn, lenient=False)
    assert last.answer == "Oru" and thoughts_of(last.turns[0].completion) == "maybe <answer>Tan</answer>"
    alone = played(Completion("", thoughts="Oru, I think"), "<reason>So.</reason><answer>Oru</answer>", lenient=False)
    first = alone.turns[0].action
    assert isinstance(first, Malformed) and first.problem.startswith("The turn holds thoughts alone.")


def test_what_came_instead_of_a_turn_is_read_by_the_policy() -> None:
    turn = Completion("", remark="The model called functions instead of writing a turn (look).")
    first = played(turn, "<reason>So.</reason><answer>Oru</answer>", lenient=False).turns[0]
    assert isinstance(first.action, Malformed) and first.action.problem.endswith("(look).")


def test_nothing_twice_in_a_row_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with endpoint(lambda body: said("")) as server:
        agent = Agent(ChatPolicy("vlm", server.url), FakeTools().toolbox())
        reply = agent.ask("What is it?")
        assert len(server.asked) == 2
    assert reply.error is not None and "wrote nothing twice in a row" in reply.error


def test_the_prompt_to_ask_has_a_worked_example_for_who_was_not_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    policy, tools = build_policy(ChatPolicySettings(model="gpt-5")), FakeTools().toolbox()
    assert prompt_to_ask(policy, tools).name == "untrained"
    text_only = Toolbox(text_search=tools.text_search)
    chosen = prompt_to_ask(policy, text_only)
    assert chosen.name == "untrained-text" and "img_search" not in chosen.system + "".join(chosen.after.values())
    assert prompt_to_ask(policy, Toolbox()).name == "direct"
    assert prompt_to_ask(policy, tools, "mmsearch-r1").name == "mmsearch-r1"
    assert prompt_to_ask(HumanPolicy(), tools).name == "deepmmsearch-r1"


def test_settings_reach_every_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with endpoint(lambda body: said("<reason>I know.</reason><answer>Oru</answer>")) as server:
        settings = ChatPolicySettings(
            model="m",
            base_url=server.url,
            temperature=None,
            stop=(),
            reasoning_effort="low",
            extra_body={"chat_template_kwargs": {"enable_thinking": False}},
        )
        policy = build_policy(settings)
        start = Trajectory(Question("q", "What is it?"), load_prompt("direct"))
        asyncio.run(policy.act(start))
        asked = server.asked[0]
    assert asked["reasoning_effort"] == "low" and asked["chat_template_kwargs"] == {"enable_thinking": False}
    assert not {"temperature", "stop"} & asked.keys()


def test_a_field_that_has_a_setting_is_not_set_beside_it() -> None:
    with pytest.raises(ValueError, match="temperature cannot stand in extra_body"):
        EndpointSettings(extra_body={"temperature": 1})


def test_what_no_form_of_the_request_satisfies_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    start = Trajectory(Question("q", "What is it?"), load_prompt("direct"))
    with endpoint(lambda body: as_json({"error": {"message": "messages is not supported"}}, 400)) as server:
        with pytest.raises(EndpointError, match="HTTP 400"):
            asyncio.run(ChatPolicy("m", server.url).act(start))
        assert len(server.asked) == 1
