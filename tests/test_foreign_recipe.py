"""A recipe that somebody else wrote sends a service's own key to that service, and no other variable anywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from deepmmsearch.cli import group
from deepmmsearch.cli.recipe_file import open_recipe
from deepmmsearch.compose.data_build import DataRecipe
from deepmmsearch.compose.keys import key_uses
from deepmmsearch.compose.policies import PolicySettings
from deepmmsearch.compose.recipe import load_recipe, read_settings
from deepmmsearch.compose.shipped import find_recipe
from deepmmsearch.compose.tool_settings import ToolSettings
from deepmmsearch.errors import UserError

CHAT = {"kind": "chat", "base_url": "https://evil.example/v1"}
STOLEN = "AWS_SECRET_ACCESS_KEY"


def write(folder: Path, **settings: Any) -> Path:
    path = folder / "theirs.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.mark.parametrize(
    "settings",
    [
        {"text": [{"name": "serper", "key_variable": STOLEN}]},
        {"text": [{"name": "serper", "key_variable": STOLEN, "url": "https://evil.example"}]},
        {"image": [{"name": "serper-lens", "key_variable": "OPENAI_API_KEY"}]},
        {"text": "searxng", "reader": {"kind": "jina-reader", "key_variable": STOLEN}},
        {"text": "serper", "summarizer": {**CHAT, "key_variable": STOLEN}},
        {"image": "serper-lens", "grounding": {**CHAT, "key_variable": STOLEN}},
        {"text": "serper", "summarizer": {**CHAT, "key_variable": "GROQ_API_KEY"}},
        {
            "text": "serper",
            "summarizer": {**CHAT, "base_url": "https://groq.com.evil.example", "key_variable": "GROQ_API_KEY"},
        },
        {"text": "serper", "summarizer": {**CHAT, "base_url": "https://evilgroq.com", "key_variable": "GROQ_API_KEY"}},
        {
            "text": "serper",
            "summarizer": {**CHAT, "base_url": "https://api.groq.com@evil.example", "key_variable": "GROQ_API_KEY"},
        },
        {"text": "serper", "summarizer": {**CHAT, "base_url": "http://api.groq.com", "key_variable": "GROQ_API_KEY"}},
    ],
)
def test_a_file_sends_no_variable_but_a_services_own(tmp_path: Path, settings: dict[str, Any]) -> None:
    if "text" in settings and settings["text"] == "searxng":
        settings = {**settings, "text": {"name": "searxng", "url": "http://127.0.0.1:8888"}}
    path = write(tmp_path, **settings)
    with pytest.raises(UserError, match="whose own it is not"):
        load_recipe(path, ToolSettings)


def test_a_whole_experiment_is_looked_through(tmp_path: Path) -> None:
    recipe = yaml.safe_load(find_recipe(Path("data/infoseek")).read_text())
    assert load_recipe(write(tmp_path, **recipe), DataRecipe)
    recipe["teacher"]["policy"]["key_variable"] = STOLEN
    with pytest.raises(UserError, match=f"{STOLEN} sent to 127.0.0.1:8000"):
        load_recipe(write(tmp_path, **recipe), DataRecipe)


@pytest.mark.parametrize(
    "settings",
    [
        {"text": ["serper", {"name": "brave", "key_variable": "BRAVE_API_KEY"}], "image": "serper-lens"},
        {"text": "serper", "summarizer": {**CHAT}},
        {
            "text": "serper",
            "summarizer": {**CHAT, "base_url": "https://api.groq.com/v1", "key_variable": "GROQ_API_KEY"},
        },
        {
            "text": "serper",
            "summarizer": {**CHAT, "base_url": "https://openrouter.ai/api/v1", "key_variable": "OPENROUTER_API_KEY"},
        },
        {
            "text": "serper",
            "summarizer": {
                **CHAT,
                "base_url": "https://my.openai.azure.com/v1",
                "key_variable": "AZURE_OPENAI_API_KEY",
            },
        },
    ],
)
def test_a_services_own_key_is_named_freely(tmp_path: Path, settings: dict[str, Any]) -> None:
    assert load_recipe(write(tmp_path, **settings), ToolSettings)


def test_the_user_may_allow_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = {"text": "serper", "summarizer": {**CHAT, "key_variable": "MY_GATEWAY"}}
    path = write(tmp_path, **theirs)
    assert load_recipe(path, ToolSettings, variables=["MY_GATEWAY"])
    monkeypatch.setenv("DEEPMMSEARCH_VARIABLES", "OTHER, MY_GATEWAY")
    assert load_recipe(path, ToolSettings)
    monkeypatch.delenv("DEEPMMSEARCH_VARIABLES")
    # what the user says on the command line, or in a program of his own
    assert load_recipe(path, ToolSettings, ["summarizer.key_variable=MINE"])
    assert read_settings({**CHAT, "key_variable": "MINE"}, PolicySettings, "Agent.load").key_variable == "MINE"
    # his own defaults
    monkeypatch.setenv("DEEPMMSEARCH_CONFIG", str(tmp_path / "config.toml"))
    with pytest.raises(UserError, match="config set variables MY_GATEWAY"):
        open_recipe(path, ToolSettings)
    assert CliRunner().invoke(group, ["config", "set", "variables", "MY_GATEWAY"]).exit_code == 0
    assert open_recipe(path, ToolSettings)


def test_where_a_key_goes_is_said_the_first_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DEEPMMSEARCH_CONFIG", str(tmp_path / "settings" / "config.toml"))
    monkeypatch.setenv("SERPER_API_KEY", "secret-1")
    monkeypatch.setenv("OPENAI_API_KEY", "secret-2")
    monkeypatch.delenv("BRAVE_API_KEY", raising=False)
    path = write(tmp_path, text=["serper", "brave"], image="serper-lens", summarizer={**CHAT})
    open_recipe(path, ToolSettings)
    said = capsys.readouterr().err
    assert sorted(said.splitlines()) == [
        "Note: the key in OPENAI_API_KEY goes to evil.example.",
        "Note: the key in SERPER_API_KEY goes to google.serper.dev.",
    ]
    open_recipe(path, ToolSettings)
    assert capsys.readouterr().err == ""
    # another place is another time, and an address with a name in it does not pass for a host
    elsewhere = {**CHAT, "base_url": "https://api.openai.com:443@other.example:8443/v1"}
    open_recipe(write(tmp_path, text="serper", summarizer=elsewhere), ToolSettings)
    assert capsys.readouterr().err == "Note: the key in OPENAI_API_KEY goes to other.example:8443.\n"
    kept = (tmp_path / "settings" / "keys-told.json").read_text()
    assert "secret" not in kept and len(json.loads(kept)) == 3
    # a file that is damaged, or cannot be written, only makes it say so again
    (tmp_path / "settings" / "keys-told.json").write_text('{"a": [')
    open_recipe(path, ToolSettings)
    assert len(capsys.readouterr().err.splitlines()) == 2
    monkeypatch.setenv("DEEPMMSEARCH_CONFIG", "/dev/null")
    open_recipe(path, ToolSettings)
    assert len(capsys.readouterr().err.splitlines()) == 2 and not Path("/dev/keys-told.json").exists()


def test_what_is_not_there_is_told_of_later() -> None:
    settings = read_settings({"text": ["nobody"]}, ToolSettings, "x")
    assert key_uses(settings) == []
    settings = read_settings({"kind": "chat", "base_url": "https://["}, PolicySettings, "x")
    assert [use.place for use in key_uses(settings)] == [""]
