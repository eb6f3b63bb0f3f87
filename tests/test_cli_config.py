"""A user's own defaults: where they come from, which counts, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from PIL import Image

from commands import done, run
from deepmmsearch.cli.ask import command as ask
from deepmmsearch.cli.defaults import SETTINGS, chosen_model, chosen_tools, config_file, default_map
from deepmmsearch.errors import UserError
from deepmmsearch.redaction import public_address
from endpoints import endpoint, said

ANSWER = said("<reason>I know.</reason><answer>Veld</answer>")


@pytest.fixture(autouse=True)
def file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEEPMMSEARCH_CONFIG", str(tmp_path / "mine" / "config.toml"))
    return tmp_path / "mine" / "config.toml"


def refused(*arguments: str) -> str:
    result = run(*arguments)
    assert isinstance(result.exception, UserError), result.output
    return str(result.exception)


def chosen(*arguments: str) -> tuple[object, ...]:
    """Kind, model, endpoint, tools and index of `ask` with these options and the defaults as they are."""
    with click.Context(ask) as context:
        context.default_map = default_map()["ask"]
        ask.parse_args(context, ["picture", "question", *arguments])
        given = context.params
        played = chosen_model(context, given["kind"], given["model"], given["base_url"])
        return (*played, *chosen_tools(context, given["tools"], given["index"]))


def test_settings_are_written_listed_and_removed(file: Path, tmp_path: Path) -> None:
    assert done("config", "path").strip() == str(file) and not file.exists()
    done("config", "set", "model", 'a "quoted" näme \\ \x01')
    file.write_text("# mine\n" + file.read_text())
    done("config", "set", "index", "here")
    done("config", "set", "model", "Qwen/Qwen2.5-VL-7B-Instruct")
    assert file.read_text() == f'# mine\nmodel = "Qwen/Qwen2.5-VL-7B-Instruct"\nindex = "{tmp_path / "here"}"\n'
    rows = {row["name"]: row for row in map(json.loads, done("config", "list", "--json").splitlines())}
    assert list(rows) == list(SETTINGS)
    assert (rows["model"]["value"], rows["model"]["origin"]) == ("Qwen/Qwen2.5-VL-7B-Instruct", str(file))
    assert rows["save"] == {"name": "save", "value": None, "origin": None, "variable": "DEEPMMSEARCH_SAVE"}
    assert "Qwen/Qwen2.5-VL-7B-Instruct (from " in done("config")
    done("config", "unset", "model")
    assert run("config", "get", "model").exit_code == 1
    assert done("config", "get", "index").strip() == str(tmp_path / "here")


@pytest.mark.parametrize("given", ["lancedb://here", "lancedb:///srv/here", "s3://bucket/here", "milvus://h:1/here"])
def test_the_address_of_a_folder_does_not_depend_on_where_it_is_set(given: str, tmp_path: Path) -> None:
    done("config", "set", "index", given)
    meant = f"lancedb://{tmp_path / 'here'}" if given == "lancedb://here" else given
    assert done("config", "get", "index").strip() == meant


def test_whatever_is_set_is_read_again() -> None:
    for value in ('a "quoted" näme \\ \x01\x7f', "🚀", "it's"):
        done("config", "set", "model", value)
        rows = {row["name"]: row for row in map(json.loads, done("config", "list", "--json").splitlines())}
        assert rows["model"]["value"] == value


def test_the_file_is_in_the_users_configuration_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DEEPMMSEARCH_CONFIG")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert config_file() == tmp_path / "xdg" / "deepmmsearch" / "config.toml"


def test_keys_are_refused_and_never_repeated(file: Path) -> None:
    secret = "sk-proj-0123456789abcdef"
    for name, value in (
        ("api_key", "0123456789"),
        ("OPENAI_API_KEY", secret),
        ("model", secret),
        ("base_url", f"https://me:{secret}@models.example/v1"),
        ("base_url", f"https://models.example/v1?api_key={secret}"),
    ):
        said = refused("config", "set", name, value)
        assert (
            "holds a key or a password" in said and "environment" in said and value not in said and secret not in said
        )
    assert not file.exists()
    assert "pa55-w0rd" not in refused("config", "set", "proxy", "me:pa55-w0rd@proxy.example:3128")
    file.parent.mkdir()
    file.write_text(f'api_key = "{secret}"\n')
    for command in (("ask", "a.png", "What?"), ("config", "list"), ("config", "set", "model", "m")):
        said = refused(*command)
        assert str(file) in said and "environment" in said and secret not in said
    assert public_address(f"https://me:{secret}@models.example/v1?key={secret}") == "https://models.example/v1?key=***"


def test_a_file_that_cannot_be_used_is_named(file: Path) -> None:
    file.parent.mkdir()
    for text, message in (
        ("model = \n", "cannot be read"),
        ('modle = "x"\n', "Did you mean 'model'"),
        ("tools = 7\n", "tools is 7"),
    ):
        file.write_text(text)
        assert message in refused("ask", "a.png", "What?")
    assert done("config", "path").strip() == str(file)


def test_unknown_settings_and_files_are_refused() -> None:
    assert "Did you mean 'model'" in refused("config", "set", "modle", "x")
    assert "Did you mean 'tools'" in refused("config", "unset", "tool")
    assert "Did you mean 'index'" in refused("config", "get", "indx")
    assert "There is no recipe web.yaml" in refused("config", "set", "tools", "web.yaml")
    assert "an OpenAI-compatible endpoint" in refused("config", "set", "base_url", "ftp://x")


def test_option_before_environment_before_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert chosen() == ("local", None, None, None, None)
    (tmp_path / "index").mkdir()
    assert chosen()[4] == Path("index")
    done("config", "set", "model", "file-model")
    done("config", "set", "base_url", "http://file/v1")
    done("config", "set", "tools", "none")
    done("config", "set", "index", "file-index")
    assert chosen() == ("chat", "file-model", "http://file/v1", "none", tmp_path / "file-index")
    monkeypatch.setenv("DEEPMMSEARCH_MODEL", "env-model")
    monkeypatch.setenv("DEEPMMSEARCH_TOOLS", "local")
    assert chosen() == ("chat", "env-model", "http://file/v1", "local", tmp_path / "file-index")
    given = ("--model", "m", "--base-url", "http://me/v1", "--tools", "none", "--index", "i")
    assert chosen(*given) == ("chat", "m", "http://me/v1", "none", Path("i"))


def test_defaults_that_do_not_fit_what_was_given_are_left_out(tmp_path: Path) -> None:
    done("config", "set", "model", "the-endpoints-name")
    done("config", "set", "base_url", "http://file/v1")
    done("config", "set", "tools", "none")
    (tmp_path / "checkpoint").mkdir()
    assert chosen("--base-url", "http://me/v1")[:3] == ("chat", None, "http://me/v1")
    assert chosen("--model", "another")[:3] == ("chat", "another", "http://file/v1")
    assert chosen("--model", "checkpoint")[:3] == ("local", "checkpoint", None)
    assert chosen("--policy", "local")[:3] == ("local", None, None)
    assert chosen("--policy", "local", "--model", "m")[:3] == ("local", "m", None)
    assert chosen("--policy", "human")[:3] == ("human", None, None)
    assert chosen("--index", "mine")[3:] == (None, Path("mine"))
    done("config", "unset", "base_url")
    assert chosen("--policy", "local")[:3] == ("local", "the-endpoints-name", None)


def test_the_defaults_are_what_ask_show_and_index_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tantivy")
    Image.effect_noise((56, 56), 80).convert("RGB").save(tmp_path / "a.png")
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "veld.txt").write_text("The capital of Veld is Moru.")
    done("config", "set", "index", "found")
    done("config", "set", "save", "asked")
    monkeypatch.setenv("DEEPMMSEARCH_BASE_URL", "http://127.0.0.1:9/v1")
    assert "1 added" in done("index", "build", "pages")
    assert (tmp_path / "found").is_dir() and "Moru" in done("index", "search", "capital")
    with endpoint(lambda _: ANSWER) as server:
        monkeypatch.setenv("DEEPMMSEARCH_BASE_URL", server.url)
        assert "Answer: Veld" in done("ask", "a.png", "Whose flag?")
    assert "Whose flag?" in done("show") and "Answer: Veld" in done("show", "last")
    assert "There is no 'lost'" in refused("show", "lost")


def test_an_index_goes_with_local_tools_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "index").mkdir()
    assert chosen("--tools", "tools/searxng")[3:] == ("tools/searxng", None)
    assert chosen("--tools", "local")[3:] == ("local", Path("index")) and chosen()[3:] == (None, Path("index"))
    assert chosen("--tools", "tools/local", "--index", "i")[3:] == ("tools/local", Path("i"))
