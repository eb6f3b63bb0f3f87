"""Our episodes as verl's agent loop plays them, without verl: what it asks its servers, and the rows that it is given.
verl's own classes are tested by `make test-verl`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("transformers")

from PIL import Image

from commands import done
from deepmmsearch.bundled import BUNDLED
from deepmmsearch.compose.agent_loop_recipe import AgentLoopRecipe
from deepmmsearch.compose.recipe import load_recipe, read_settings
from deepmmsearch.compose.recipe_kinds import kind_of
from deepmmsearch.compose.tool_settings import CacheSettings, ReplaySettings
from deepmmsearch.errors import UserError
from deepmmsearch.policies.local.checkpoint import read_parts
from deepmmsearch.scale.verl.client_policy import TokenRoom
from deepmmsearch.scale.verl.dataset_row import asked
from deepmmsearch.scale.verl.episode_player import EpisodePlayer, PlayedRow, of_this_node
from deepmmsearch.types import Question

ROOM = TokenRoom(opening=600, response=1400, whole=2048)
GIVEN = {"temperature": 1.0, "top_p": 1.0, "logprobs": True}
LOOK = "<reason> look </reason> <text_search> flag of veld </text_search>"
KNOW = "<reason> know </reason> <answer> veld </answer>"


def player(**settings: Any) -> EpisodePlayer:
    base = {"episodes": {"max_new_tokens": 64}, "tools": "none", "judge": {"rule": "exact"}, "prompt": "atlas"}
    return EpisodePlayer(read_settings({**base, **settings}, AgentLoopRecipe, "recipe.yaml"), str(BUNDLED))


@dataclass
class Said:
    """As verl's `TokenOutput`."""

    token_ids: Sequence[int]
    log_probs: Sequence[float] | None = None
    stop_reason: str | None = "completed"
    extra_fields: dict[str, Any] = field(default_factory=dict)


class Client:
    """Says these texts, one after another, as far as it is allowed to."""

    def __init__(self, *texts: str, **more: Any) -> None:
        self.texts, self.more = list(texts), more
        self.asked: list[tuple[str, list[int], dict[str, Any], int]] = []

    async def generate(
        self,
        request_id: str,
        *,
        prompt_ids: list[int],
        sampling_params: dict[str, Any],
        image_data: list[Image.Image] | None = None,
    ) -> Said:
        self.asked.append((request_id, prompt_ids, sampling_params, len(image_data or [])))
        tokenizer = PARTS.tokenizer
        ids = [*tokenizer.encode(self.texts.pop(0), add_special_tokens=False), END][: sampling_params["max_tokens"]]
        step = len(self.asked)
        steps = {"min_global_steps": step, "max_global_steps": step + 1}
        return Said(ids, [-0.5 - i / 100 for i in range(len(ids))], extra_fields=steps, **self.more)


PARTS = read_parts(BUNDLED)
END = PARTS.renderer().end_id
FLAG = Question("q", "which flag is this ?", (Image.new("RGB", (64, 64), "red"),), ("veld",))


async def play(client: Any, room: TokenRoom = ROOM, question: Question = FLAG, **settings: Any) -> PlayedRow:
    return await player(**settings).play(question, client, room, GIVEN)


async def test_a_row_is_what_was_read_and_sampled() -> None:
    client = Client(LOOK, KNOW)
    played = await play(client)
    row, tokens = played.row, [*row_ids(played)]
    [(first, opening, parameters, pictures), (second, later, _, _)] = client.asked
    assert first == second and pictures == 1 and list(row.opening) == opening
    assert later[: len(opening)] == opening and tokens[: len(later)] == later
    assert sum(row.mask) == len(tokens) - len(opening) - row.mask.count(0)
    assert [value != 0 for value in row.logprobs] == [bool(own) for own in row.mask]
    image = PARTS.renderer().image_id
    [picture] = row.pictures
    assert tokens.count(image) == PARTS.family.features(picture.size) > 1
    # what verl gave, and what would break a conversation
    assert parameters["temperature"] == 1.0 and parameters["max_tokens"] == 64
    assert parameters["logit_bias"][image] == -100 and END in parameters["stop_token_ids"]
    assert END not in parameters["logit_bias"] and played.versions == (1, 3)
    assert played.reward == 1.0 and tokens[-1] == END


def row_ids(played: PlayedRow) -> list[int]:
    return [*played.row.opening, *played.row.response]


async def test_the_parts_have_the_same_names_whatever_became_of_the_episode() -> None:
    good = await play(Client(KNOW), episodes={"max_new_tokens": 64, "parts": ["format", "crop"]})
    given_up = Client(KNOW, stop_reason="aborted")
    bad = await play(given_up, episodes={"max_new_tokens": 64, "parts": ["format", "crop"]})
    assert list(good.parts) == list(bad.parts) == ["acc", "format", "crop", "searches", "failed", "truncated"]
    assert good.parts["acc"] == 1.0 and good.parts["crop"] == 0.0 and bad.parts["failed"] == 1.0
    assert bad.reward == 0.0 and not any(bad.row.mask) and "gave the turn up" in str(bad.rollout.trajectory.error)


async def test_an_episode_ends_before_it_is_too_long_and_is_not_cut() -> None:
    whole = await play(Client(LOOK, LOOK, KNOW))
    response = whole.row.mask.index(0) + 30
    client = Client(LOOK, LOOK, KNOW)
    short = await play(client, TokenRoom(ROOM.opening, response, ROOM.whole), episodes={"truncated": "keep"})
    assert short.rollout.trajectory.stop == "context" and short.parts["truncated"] == 1.0
    assert len(short.row.response) <= response and short.row.mask[-1] == 1
    assert row_ids(short) == row_ids(whole)[: len(row_ids(short))]
    masked = await play(Client(LOOK, LOOK, KNOW), TokenRoom(ROOM.opening, response, ROOM.whole))
    assert not any(masked.row.mask) and masked.row.response == short.row.response
    # verl's servers have less room than the row
    bounded = await play(Client(LOOK, KNOW), TokenRoom(ROOM.opening, ROOM.response, len(whole.row.opening) + 5))
    assert len(bounded.row.response) == 5 and bounded.rollout.trajectory.stop == "context"


async def test_what_begins_with_too_much_is_not_asked() -> None:
    client = Client()
    played = await play(client, TokenRoom(8, 1400, 2048), episodes={"truncated": "keep"})
    assert not client.asked and played.parts["truncated"] == 1.0
    assert row_ids(played) == [END, END] and not any(played.row.mask) and not played.row.pictures


async def test_servers_that_are_gone_end_training() -> None:
    class Gone:
        async def generate(self, *args: Any, **kwargs: Any) -> Any:
            raise ConnectionError("the actor died")

    with pytest.raises(UserError, match=r"servers cannot sample \(ConnectionError: the actor died\)"):
        await play(Gone())


async def test_rows_of_verls_dataset_become_questions() -> None:
    red = {"type": "image", "image": Image.new("RGB", (4, 4), "red")}
    said = [
        {"role": "user", "content": "Before?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": [red, {"type": "text", "text": "Whose flag?"}]},
    ]
    rewarded = {"reward_model": {"ground_truth": "Veld", "candidate_answers": '["the Veld"]'}, "data_source": "x"}
    question = asked({"raw_prompt": said, "index": 7, **rewarded})
    assert (question.text, question.answers, len(question.images)) == ("Whose flag?", ("Veld", "the Veld"), 1)
    assert [e.answer for e in question.history] == ["Yes."]
    with pytest.raises(UserError, match="Row 7 of verl's data holds no question"):
        asked({"raw_prompt": [{"role": "system", "content": "Hello."}], "index": 7, **rewarded})


ASKED = [{"role": "user", "content": "Whose flag?"}]
REWARDED = {"reward_model": {"ground_truth": "Veld"}, "data_source": "x", "index": 7}


def test_a_row_of_somebody_elses_data_may_have_any_index() -> None:
    assert asked({"raw_prompt": ASKED, **REWARDED, "index": "a17"}).id == "a17"
    assert asked({"raw_prompt": ASKED, **REWARDED, "index": "17"}).id == "x-000017"
    ours = {"id": "q-3", "metadata": '{"answer_type": "string"}'}
    assert asked({"raw_prompt": tuple(ASKED), **REWARDED, "index": "9" * 5000, "extra_info": ours}).id == "q-3"


def parted(*parts: Any) -> dict[str, Any]:
    return {"raw_prompt": [{"role": "user", "content": list(parts)}]}


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"extra_info": {"metadata": "{broken"}}, "metadata is not JSON"),
        ({"extra_info": {"metadata": "[1]"}}, "metadata is not a JSON object"),
        ({"raw_prompt": None}, "Set data.return_raw_chat=true"),
        ({"raw_prompt": "Whose flag?"}, "not a list of messages"),
        ({"raw_prompt": []}, "no question"),
        ({"raw_prompt": ["Whose flag?"]}, "has no role"),
        ({"raw_prompt": [{"role": "user", "content": None}]}, "neither a text nor a list"),
        ({"raw_prompt": [{"role": "user", "content": " "}]}, "last question is empty"),
        (parted({"text": "Whose flag?"}), "has no type"),
        (parted({"type": "text"}), "has no text"),
        (parted({"type": "image"}), "has no image"),
        (parted({"type": "image", "image": "no/such.png"}), "Row 7"),
        (parted({"type": "video", "video": "a.mp4"}, {"type": "text", "text": "Who?"}), "type 'video'"),
        (parted({"type": "image_url", "image_url": {"url": "https://a.example"}}), "type 'image_url'"),
        ({"reward_model": None}, "no accepted answer"),
        ({"reward_model": {"ground_truth": " ", "candidate_answers": "[]"}}, "no accepted answer"),
        ({"reward_model": "Veld"}, "reward_model is not an object"),
    ],
)
def test_a_row_that_cannot_be_asked_or_rewarded_is_refused(row: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        asked({"raw_prompt": ASKED, **REWARDED, **row})


def test_what_is_recorded_is_the_nodes_own(tmp_path: Path) -> None:
    llm = {"kind": "llm", "model": "m", "recorder": {"cassette": str(tmp_path / "judge.sqlite")}}
    tools = {"index": "index", "grounding": "none", "recorder": {"cassette": str(tmp_path / "tools.sqlite")}}
    read = {"episodes": {}, "tools": tools, "judge": llm}
    own = of_this_node(read_settings(read, AgentLoopRecipe, "recipe.yaml"))
    for recorder, name in ((own.tools.recorder, "tools"), (own.judge.recorder, "judge")):  # type: ignore[union-attr]
        assert isinstance(recorder, CacheSettings) and recorder.cassette.parent == tmp_path
        stem, node, kind = (
            recorder.cassette.name.split(".", 1)[0],
            *recorder.cassette.name[len(name) + 1 :].rsplit(".", 1),
        )
        assert (stem, kind) == (name, "sqlite") and node
    tools["recorder"] = {"mode": "replay", "cassette": str(tmp_path / "tools.sqlite")}
    kept = of_this_node(read_settings(read, AgentLoopRecipe, "recipe.yaml")).tools
    assert isinstance(kept.recorder, ReplaySettings)  # type: ignore[union-attr]
    assert kept.recorder.cassette == tmp_path / "tools.sqlite"  # type: ignore[union-attr]


def test_what_would_be_read_otherwise_is_refused() -> None:
    own = player()
    least, most, _ = PARTS.family.bounds

    def told(name: str = "vllm", least: int = least, most: int = most, **data: Any) -> str:
        config = SimpleNamespace(actor_rollout_ref=SimpleNamespace(rollout=SimpleNamespace(name=name)), data=data)
        processor = SimpleNamespace(
            image_processor=SimpleNamespace(size={"shortest_edge": least, "longest_edge": most})
        )
        try:
            own.refuse_other_readings(config, processor)
        except UserError as error:
            return str(error)
        return ""

    assert told() == told(least=1, most=10**9) == ""
    assert "Set rollout.name=vllm" in told("sglang")
    assert "episodes.max_pixels" in told(mm_processor_kwargs={"max_pixels": 1})
    assert "preprocessor_config.json" in told(least=least + 1) and "preprocessor_config.json" in told(most=most - 1)
    with pytest.raises(UserError, match="pictures of at least"):
        player(episodes={"max_pixels": 1})


async def test_pictures_are_no_larger_than_the_recipe_says() -> None:
    large = Question("q", "what ?", (Image.new("RGB", (800, 800)),), ("veld",))
    most = PARTS.family.bounds[1] // 2
    for settings, bound in (({}, PARTS.family.bounds[1]), ({"max_pixels": most}, most)):
        [seen] = (await play(Client(KNOW), question=large, episodes=settings)).row.pictures
        assert bound // 2 < seen.width * seen.height <= bound


def test_the_recipe_is_told_apart_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(Path("verl/episodes"), AgentLoopRecipe)
    assert recipe.limits.tokens == 8192 and recipe.episodes.failed == "mask"
    mine = tmp_path / "mine.yaml"
    mine.write_text("episodes: {}\ntools: none\njudge: {rule: exact}\n")
    assert "episodes" in done("check", mine)
    with pytest.raises(UserError, match="configuration of verl"):
        kind_of({"actor_rollout_ref": {}}, "x.yaml")
    for tools, name in (({"index": "i"}, "grounding"), ({"text": ["serper"], "summarizer": "own"}, "summarizer")):
        with pytest.raises(UserError, match=f"tools.{name} is own"):
            read_settings({"episodes": {}, "tools": tools}, AgentLoopRecipe, "x.yaml")
    read_settings({"episodes": {}, "tools": {"text": ["serper"]}}, AgentLoopRecipe, "x.yaml")


def test_the_core_runs_in_an_environment_without_torch_and_transformers() -> None:
    """verl decides which of them are installed, and in which version."""
    script = """
import sys
for name in ("torch", "transformers", "trl", "peft", "accelerate", "tokenizers", "openai", "tantivy"):
    sys.modules[name] = None
import asyncio
from deepmmsearch.agent import Toolbox, play
from deepmmsearch.compose.agent_loop_recipe import AgentLoopRecipe
from deepmmsearch.compose.recipe import load_recipe
from deepmmsearch.prompts import load_prompt
from deepmmsearch.renderer import messages
from deepmmsearch.scale.verl import client_policy, token_row
from deepmmsearch.testing import ScriptedPolicy
from deepmmsearch.types import Question, Trajectory
start = Trajectory(Question("q", "Whose flag?"), load_prompt("deepmmsearch-r1"))
said = ("<reason>I look.</reason><text_search>flag</text_search>", "<reason>I know.</reason><answer>Veld</answer>")
played = asyncio.run(play(start, ScriptedPolicy(*said), Toolbox()))
load_recipe("verl/episodes", AgentLoopRecipe)
print(played.answer, len(messages(played)[0]))
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=600)
    assert ran.stdout.split() == ["Veld", "5"], ran.stderr
