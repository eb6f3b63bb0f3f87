from __future__ import annotations

from pathlib import Path

import pytest

from deepmmsearch.agent.dialect import DIALECTS
from deepmmsearch.errors import UnknownName, UserError
from deepmmsearch.prompts import grounding_prompt, load_prompt, prompt_names


@pytest.mark.parametrize("name", prompt_names())
def test_every_set_loads(name: str) -> None:
    prompt = load_prompt(name)
    assert prompt.name == name
    assert prompt.dialect in DIALECTS.names()
    assert "{question}" in prompt.user
    assert prompt.system == prompt.system.strip() != ""


def test_the_papers_sets_name_their_tags_and_have_a_text_for_every_state() -> None:
    assert {"deepmmsearch-r1", "mmsearch-r1", "direct"} <= set(prompt_names())
    assert load_prompt("functions").dialect == "functions"
    for name in ("deepmmsearch-r1", "mmsearch-r1"):
        prompt = load_prompt(name)
        assert prompt.dialect == name
        for tag in (
            "reason",
            "answer",
            "text_search",
            {"deepmmsearch-r1": "img_search", "mmsearch-r1": "search"}[name],
        ):
            assert f"<{tag}>" in prompt.system
        assert all(prompt.after[state] for state in ("image", "text", "malformed"))
    assert "search>" not in load_prompt("direct").system


def test_unknown_set_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'mmsearch-r1'"):
        load_prompt("mmsearch-r2")


def test_a_folder_of_your_own(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "system.md").write_text("Be short.\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"no file user\.md"):
        load_prompt(str(folder))
    (folder / "user.md").write_text("Well?", encoding="utf-8")
    with pytest.raises(UserError, match=r"has no \{question\}"):
        load_prompt(str(folder))
    (folder / "user.md").write_text("{question}\n", encoding="utf-8")
    prompt = load_prompt(str(folder), dialect="mmsearch-r1")
    assert (prompt.name, prompt.dialect, prompt.system, prompt.user) == (
        "mine",
        "mmsearch-r1",
        "Be short.",
        "{question}",
    )
    with pytest.raises(UnknownName):
        load_prompt(str(folder), dialect="none")


def test_grounding_prompt() -> None:
    assert grounding_prompt("the flag\non the ship") == "Locate the flag on the ship. Output its bounding box in JSON."
