"""`deepmmsearch ask` as a user meets it: through the entry point, against a real index and a server on this machine."""

from __future__ import annotations

import io
import json
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from checkpoints import tiny_checkpoint
from deepmmsearch import cli
from deepmmsearch.atlas.questions import make_questions
from deepmmsearch.atlas.world import make_world
from deepmmsearch.atlas.world_files import is_atlas_picture, write_atlas
from deepmmsearch.compose import policies
from deepmmsearch.engine import Index
from deepmmsearch.show.terminal import plain
from deepmmsearch.store import TrajectoryStore
from endpoints import Endpoint, endpoint, error, late, said

Run = Callable[..., tuple[int, str, str]]
PAGE = "# Veld\n\nThe capital of Veld is [b]Moru[/b].\n"
TURNS = (
    "<reason>I look for the [red]flag[/red].</reason><img_search>the flag on the ship</img_search>",
    '{"bbox_2d": [28, 28, 84, 84]}',
    "<reason>It is Veld.</reason><text_search>capital of Veld</text_search>",
    "<reason>The page says so.</reason><answer>Moru</answer>",
)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["deepmmsearch", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "ship.png"
    Image.effect_noise((224, 168), 80).convert("RGB").save(path)
    return path


@pytest.fixture
def index(tmp_path: Path) -> Path:
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "veld.md").write_text(PAGE)
    Image.effect_noise((120, 90), 70).convert("RGB").save(pages / "flag-of-veld.png")
    Index.build(pages, tmp_path / "world")
    return tmp_path / "world"


@pytest.fixture
def player() -> Iterator[Endpoint]:
    """Plays TURNS, whatever it is shown."""
    left = list(TURNS)
    with endpoint(lambda _: said(left.pop(0))) as server:
        yield server


def failed(result: tuple[int, str, str], message: str, expected: int = 2) -> None:
    code, out, err = result
    assert code == expected, (code, out, err)
    assert err.startswith("Error: ") and err.count("\n") == 1, err
    assert message in err, err
    assert "Traceback" not in out + err


def test_the_whole_episode_is_shown(run: Run, picture: Path, index: Path, player: Endpoint, tmp_path: Path) -> None:
    options = ("--base-url", player.url, "--model", "vlm", "--index", index, "--save", tmp_path / "kept")
    code, out, err = run("ask", picture, "What is the capital?", *options)
    assert code == 0, err
    for expected in (
        "I look for the [red]flag[/red].",
        "searches with a part of the picture: the flag on the ship",
        '"the flag on the ship": box 28, 28, 84, 84, score 1.00',
        "searches text: capital of Veld",
        "[1] The capital of Veld is [b]Moru[/b].",
        "Answer: Moru",
    ):
        assert expected in out, out
    sources = out.split("Answer: Moru\n")[1]
    assert sources.startswith("  [1] Veld") and "veld" in sources
    stored = next(iter(TrajectoryStore(tmp_path / "kept")))
    seen = stored.turns[0].observation
    assert stored.answer == "Moru" and seen is not None and seen.crop is not None
    saved = next(line for line in out.splitlines() if "crop " in line).split("saved as ")[1]
    assert Image.open(saved).size == seen.crop.size


def test_asking_again_is_an_entry_of_its_own(run: Run, picture: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    with endpoint(lambda _: said("<reason>I know.</reason><answer>Veld</answer>")) as server:
        options = ("--base-url", server.url, "--tools", "none", "--save", kept, "--json")
        asked = [json.loads(run("ask", picture, "Whose flag?", *options)[1]) for _ in range(2)]
    code, out, _ = run("show", kept, "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [row["id"] for row in rows] == [a["id"] for a in asked] and rows[0]["id"] != rows[1]["id"]
    for row, whole in zip(rows, asked, strict=True):
        assert row == {name: whole[name] for name in row}
        assert (row["model"], row["endpoint"], row["question"], row["answer"]) == (
            "vlm",
            server.url,
            "Whose flag?",
            "Veld",
        )
        assert datetime.fromisoformat(row["date"]).tzinfo is not None
        assert json.loads(run("show", kept, row["id"], "--json")[1]) == whole


def test_the_bundled_model_says_that_it_knows_invented_worlds_only(run: Run, picture: Path, tmp_path: Path) -> None:
    folder = tmp_path / "atlas"
    write_atlas(make_world(3, "eval", countries=12, famous=1), folder, make_questions(make_world(3, "eval", 12, 1), 1))
    scene = next((folder / "images").iterdir())
    assert all(is_atlas_picture(path) for path in folder.rglob("*.png"))
    for asked, foreign in ((picture, True), (scene, False)):
        code, _, err = run("ask", asked, "Whose flag?", "--tools", "none")
        assert code == 0 and ("invented worlds only" in err) is foreign, err
        assert not foreign or ("--model" in err and "--base-url" in err and "config set" in err)
    other = tiny_checkpoint(tmp_path / "small", prompt="atlas", max_new_tokens=8)
    assert "invented worlds" not in run("ask", picture, "Whose flag?", "--model", other)[2]


def test_json_is_one_object(run: Run, picture: Path, index: Path, player: Endpoint) -> None:
    options = ("--base-url", player.url, "--model", "vlm", "--index", index, "--json")
    code, out, _ = run("ask", picture, "What is the capital?", *options)
    row = json.loads(out)
    assert code == 0 and row["answer"] == "Moru" and row["stop"] == "answer"
    assert [t["action"] for t in row["turns"]] == ["image_search", "text_search", "answer"]
    assert row["turns"][0]["box"] == [28, 28, 84, 84, 1.0]
    assert [s["turn"] for s in row["sources"]] == [2]
    # of three turns; the box is a call of a tool
    assert (row["spent"]["prompt_tokens"], row["spent"]["sampled_tokens"]) == (21, 9)


def test_without_tools_the_model_answers_directly_and_the_user_is_told(run: Run, picture: Path, index: Path) -> None:
    with endpoint(lambda _: said("<reason>I know.</reason><answer>Veld</answer>")) as server:
        code, out, err = run("ask", picture, "Whose flag?", "--base-url", server.url)
        assert code == 0 and "Answer: Veld" in out and "answered without searching" in err
        assert "answered without searching" in run("ask", picture, "Whose?", "--base-url", server.url, "--json")[2]
        for options in (("--tools", "none"), ("--index", index)):
            assert run("ask", picture, "Whose flag?", "--base-url", server.url, *options)[2] == ""
    assert "nothing to look things up with" in server.asked[0]["messages"][0]["content"]


def test_the_local_model_answers_or_not(run: Run, picture: Path, tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "small", prompt="atlas", max_new_tokens=8)
    code, out, _ = run("ask", picture, "Whose flag?", "--model", folder)
    assert code == 1 and "No answer: a turn" in out


def test_the_image_may_be_searched_more_than_once(run: Run, picture: Path, index: Path) -> None:
    whole = "<reason>I look.</reason><img_search><img></img_search>"
    for option, refused in (((), 1), (("--image-searches", "2"), 0), (("--image-searches", "0"), 2)):
        left = [whole, whole, TURNS[-1]]
        with endpoint(lambda _, left=left: said(left.pop(0))) as player:
            place = ("--base-url", player.url, "--model", "vlm", "--index", index)
            code, out, err = run("ask", picture, "Whose?", *place, *option, "--json")
        assert code == 0, err
        turns = json.loads(out)["turns"]
        assert sum("search" in (turn.get("error") or "") for turn in turns) == refused, turns


def test_a_human_plays(run: Run, picture: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["text: capital of Veld", "answer: Moru"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines)))
    code, out, _ = run("ask", picture, "What is the capital?", "--policy", "human", "--index", index)
    assert code == 0 and "Answer: Moru" in out and "[1] Veld" in out


def test_nothing_read_reaches_the_terminal_as_code(run: Run, picture: Path) -> None:
    nasty = "<reason>\x1b[2J\x1b]0;title\x07[blink]hi</reason><answer>\u202eVe\x1b[31mld[/]</answer>"
    with endpoint(lambda _: said(nasty)) as server:
        code, out, _ = run("ask", picture, "Whose?", "--base-url", server.url)
    assert code == 0 and "\x1b" not in out and "\x07" not in out and "\u202e" not in out
    assert "[blink]hi" in out and "Answer: Ve[31mld[/]" in out


def test_plain_keeps_text() -> None:
    assert plain("Ünï\n\tcode 👩\u200d🚀") == "Ünï\n code 👩\u200d🚀"


def png_header(width: int, height: int) -> bytes:
    """The beginning of a PNG of that size, as far as a reader looks before it decodes."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    header = struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + header + struct.pack(">I", 9999) + b"IDAT" + zlib.compress(bytes(9000))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no picture at"),
        (b"", "is empty"),
        (b"GIF89a", "not a picture"),
        (b"hello, I am a text", "not a picture"),
        (png_header(50_000, 50_000), "too large"),
        ("truncated", "truncated"),
    ],
)
def test_bad_pictures(run: Run, tmp_path: Path, picture: Path, content: Any, message: str) -> None:
    bad = tmp_path / "bad.png"
    if content is not None:
        bad.write_bytes(picture.read_bytes()[:3000] if content == "truncated" else content)
    failed(run("ask", bad, "Whose flag?", "--save", tmp_path / "kept"), message)
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize(
    ("question", "message"), [("", "question is empty"), (" \n ", "question is empty"), ("x" * 30_000, "Shorten it")]
)
def test_bad_questions(run: Run, picture: Path, question: str, message: str) -> None:
    failed(run("ask", picture, question), message)


def test_a_question_longer_than_the_window(run: Run, picture: Path, tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "small", prompt="atlas")
    failed(run("ask", picture, "why " * 4000, "--model", folder, "--save", tmp_path / "kept"), "does not fit")
    assert not (tmp_path / "kept").exists()
    with endpoint(lambda _: error("maximum context length is 4096 tokens")) as server:
        failed(run("ask", picture, "why " * 4000, "--base-url", server.url), "does not fit")


def test_bad_names(run: Run, picture: Path, index: Path, tmp_path: Path) -> None:
    failed(run("ask", picture, "Whose?", "--policy", "caht"), "Did you mean 'chat'")
    failed(run("ask", picture, "Whose?", "--tools", "locl"), "Did you mean 'local'")
    failed(run("ask", picture, "Whose?", "--policy", "human", "--prompt", "mmserch-r1"), "Did you mean 'mmsearch-r1'")
    tiny_checkpoint(tmp_path / "small")
    failed(run("ask", picture, "Whose?", "--model", tmp_path / "smal"), "Did you mean")
    failed(run("ask", picture, "Whose?", "--model", tmp_path), "no config.json")
    failed(run("ask", picture, "Whose?", "--model", "someone/nothing"), "No vision-language model")
    code, _, err = run("ask", picture, "Whose?", "--indx", index)
    assert code == 2 and "--index" in err and "Traceback" not in err


def test_bad_places(run: Run, picture: Path, tmp_path: Path) -> None:
    failed(run("ask", picture, "Whose?", "--index", tmp_path / "nowhere"), "index")
    failed(run("ask", picture, "Whose?", "--index", tmp_path), "index")
    failed(run("ask", picture, "Whose?", "--tools", "local"), "index build")
    failed(run("ask", picture, "Whose?", "--save", picture), "is a file")
    other = tmp_path / "old"
    Index.build(_page(tmp_path), other)
    meta = other / "meta.json"
    row = json.loads(meta.read_text())
    meta.write_text(json.dumps({k: 999 if k in ("format", "version") else v for k, v in row.items()}))
    failed(run("ask", picture, "Whose?", "--index", other), "")


def _page(tmp_path: Path) -> Path:
    pages = tmp_path / "some"
    pages.mkdir()
    (pages / "a.md").write_text(PAGE)
    return pages


def test_without_the_bundled_model(run: Run, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "BUNDLED", tmp_path / "nothing")
    failed(run("ask", picture, "Whose?"), "no bundled model")


def test_endpoint_trouble(run: Run, picture: Path) -> None:
    with endpoint(lambda _: said("x")) as server:
        gone = server.url
    failed(run("ask", picture, "Whose?", "--base-url", gone, "--model", "m"), "Nothing answers at", 1)
    failed(run("ask", picture, "Whose?", "--base-url", "nonsense", "--model", "m"), "is not the address")
    failed(run("ask", picture, "Whose?", "--policy", "chat", "--model", "m"), "No key")
    for reply, message, timeout, code in (
        (lambda _: late(), "did not answer within", 0.2, 1),
        (lambda _: error("this model takes no image input"), "refuses the picture", 60, 1),
        (lambda _: (200, "text/html", b"<h1>It works!</h1>"), "not a chat completion", 60, 1),
        (lambda _: error("The model `vln` does not exist", 404), "Did you mean 'vlm'", 60, 2),
    ):
        with endpoint(reply) as server:
            words = ("--base-url", server.url, "--model", "vln", "--timeout", timeout)
            failed(run("ask", picture, "Whose?", *words), message, code)
    with endpoint(lambda _: error("gone", 400)) as server:
        code, out, _ = run("ask", picture, "Whose?", "--base-url", server.url, "--json")
    row = json.loads(out)
    assert code == 1 and row["answer"] is None and "gone" in row["error"] and row["turns"] == []


def test_what_was_played_before_the_endpoint_fails_is_kept(run: Run, picture: Path, tmp_path: Path) -> None:
    replies = [said("<reason>r</reason><text_search>x</text_search>"), error("gone", 400)]
    with endpoint(lambda _: replies.pop(0)) as server:
        failed(run("ask", picture, "Whose?", "--base-url", server.url, "--save", tmp_path / "kept"), "gone", 1)
    stored = next(iter(TrajectoryStore(tmp_path / "kept")))
    assert len(stored.turns) == 1 and stored.stop == "error" and "gone" in (stored.error or "")


def test_help_has_an_example(run: Run) -> None:
    code, out, _ = run("ask", "--help")
    assert code == 0 and "Example:" in out
