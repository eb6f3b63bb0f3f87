"""What holds questions or answers is for its owner alone, from its first byte; what is meant to be shared is not."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from PIL import Image

from commands import done
from deepmmsearch import images
from deepmmsearch.agent.metering import calling
from deepmmsearch.engine import Index
from deepmmsearch.files import locked, replacing, write_text
from deepmmsearch.outputs import Output
from deepmmsearch.prompts import load_prompt
from deepmmsearch.serve.history import History
from deepmmsearch.serve.house import Histories
from deepmmsearch.store import TrajectoryStore
from deepmmsearch.tools.cassette import Cassette
from deepmmsearch.tools.recorded import RecordedTextSearch
from deepmmsearch.tools.recorder import Recorder
from deepmmsearch.types import Answer, Completion, Hit, Question, Trajectory, Turn
from endpoints import endpoint, said

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such permissions")

OPEN, USUAL = 0, 0o022


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """The most open one: whatever is not for others is so by itself."""
    before = os.umask(OPEN)
    yield
    os.umask(before)


@pytest.fixture(autouse=True)
def no_change_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that others could open for a moment is one that they may have opened."""

    change = os.chmod

    def checked(path: str, wanted: int, **named: bool) -> None:
        assert not (wanted ^ mode(Path(path))) & 0o077, f"{path} was {oct(mode(Path(path)))} before {oct(wanted)}"
        change(path, wanted, **named)

    monkeypatch.setattr(os, "chmod", checked)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def others_may(*places: Path) -> dict[str, str]:
    """What in the places, and of themselves, anybody else may read, list or write."""
    found = [path for place in places for path in (place, *place.rglob("*"))]
    assert all(place.exists() for place in places) and found
    return {str(path): oct(mode(path)) for path in found if mode(path) & 0o077}


def trajectory(id: str = "q1") -> Trajectory:
    question = Question(id, "Who built this?", (Image.effect_noise((20, 20), 50).convert("RGB"),), ("Ada",))
    turns = (Turn(Completion("<reason>x</reason><answer>Ada</answer>"), Answer("Ada")),)
    return Trajectory(question, load_prompt("atlas"), turns=turns, stop="answer")


def test_a_store(tmp_path: Path) -> None:
    store = TrajectoryStore(tmp_path / "runs" / "kept")
    for id in ("a", "b", "c"):
        store.append(trajectory(id))
    store.remove({"b"})
    assert store.ids() == ("a", "c") and mode(tmp_path / "runs") == 0o777
    assert not others_may(tmp_path / "runs" / "kept")


def test_a_history(tmp_path: Path) -> None:
    history = History(tmp_path / "history")
    history.keep(trajectory(), {"date": "2026-01-01"})
    history.rename("q1", "A title")
    history.close()
    histories = Histories(tmp_path / "serve")
    histories.of("ann").keep(trajectory(), {})
    histories.close()
    assert len(list((tmp_path / "history").iterdir())) > 3 and not others_may(tmp_path / "history", tmp_path / "serve")


class Words:
    name = "words"

    async def search(self, query: str, k: int) -> list[Hit]:
        with calling("text_search", self.name, 0.0):
            return [Hit(query, "https://veld.test", image=Image.new("RGB", (9, 9)))]


def test_a_cassette(tmp_path: Path) -> None:
    async def record(cassette: Path) -> None:
        recorder = Recorder(Cassette(cassette))
        await RecordedTextSearch(Words(), recorder).search("secret", 3)
        # while it is open, with SQLite's files beside it
        assert len(list(cassette.parent.iterdir())) > 2 and not others_may(cassette.parent)
        recorder.close()

    asyncio.run(record(tmp_path / "new" / "cache.sqlite"))
    done("cache", "export", tmp_path / "new" / "cache.sqlite", tmp_path / "out" / "all.jsonl.gz")
    done("cache", "import", tmp_path / "other" / "cache.sqlite", tmp_path / "out" / "all.jsonl.gz")
    done("cache", "prune", tmp_path / "other" / "cache.sqlite", "--all")
    assert not others_may(*(tmp_path / name for name in ("new", "out", "other")))


def test_what_ask_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPMMSEARCH_CONFIG", str(tmp_path / "config" / "config.toml"))
    done("config", "set", "save", tmp_path / "asked")
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    with endpoint(lambda _: said("<reason>x</reason><answer>Ada</answer>")) as server:
        done("ask", tmp_path / "a.png", "Who?", "--base-url", server.url)
    assert len(list((tmp_path / "config").iterdir())) == 2
    assert not others_may(tmp_path / "asked", tmp_path / "config")


def test_an_evaluation_and_its_report(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text(json.dumps({"id": "q", "question": "Who?", "answers": ["Ada"]}))
    with endpoint(lambda _: said("<reason>x</reason><answer>Ada</answer>")) as server:
        recipe = {
            "output": str(tmp_path / "runs" / "mine"),
            "policies": {"m": {"kind": "chat", "base_url": server.url, "model": "vlm"}},
            "benchmarks": [{"name": str(tmp_path / "mine.jsonl")}],
            "workflows": {"direct": {"kind": "direct"}},
            "judges": {"reward": {"rule": "reward"}},
        }
        (tmp_path / "eval.yaml").write_text(yaml.safe_dump(recipe))
        done("eval", tmp_path / "eval.yaml")
    done("report", tmp_path / "runs" / "mine", "--out", tmp_path / "page")
    assert {"verdicts.jsonl", "report.html"} <= {path.name for path in (tmp_path / "runs" / "mine").iterdir()}
    assert not others_may(tmp_path / "runs" / "mine", tmp_path / "page")


def test_a_build_is_private_and_its_data_set_is_not(tmp_path: Path) -> None:
    for package in ("pyarrow", "imagehash", "matplotlib"):
        pytest.importorskip(package)
    from data_players import good, makers, write_seeds
    from deepmmsearch.data.pipeline import build
    from deepmmsearch.data.recipe import BuildSettings

    seeds = write_seeds(tmp_path / "seeds", [good(n, search=n % 2 == 0, kind="Arts") for n in range(4)])
    chosen = {
        "output": tmp_path / "build",
        "seeds": {"benchmark": str(seeds)},
        "taxonomy": {"categories": ["Arts"]},
        "balance": {"search_share": None},
        "splits": {"validation": 0.25},
    }
    os.umask(USUAL)
    built = build(BuildSettings.model_validate(chosen), makers(tmp_path / "log"))
    apart = [path for path in built.dataset.parent.iterdir() if path.is_dir() and path != built.dataset]
    assert len(apart) > 5 and not others_may(*apart, tmp_path / "build" / "recipe.yaml")
    assert mode(tmp_path / "build") == mode(built.dataset) == 0o755
    assert {mode(path) for path in built.dataset.iterdir()} == {0o644} and len(list(built.dataset.iterdir())) > 3


@pytest.mark.parametrize(("mask", "file", "folder"), [(USUAL, 0o644, 0o755), (0o027, 0o640, 0o750)])
def test_what_is_shared(tmp_path: Path, mask: int, file: int, folder: int) -> None:
    os.umask(mask)
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "a.txt").write_text("Veld")
    Index.build(tmp_path / "pages", tmp_path / "index")
    TrajectoryStore(tmp_path / "kept").append(trajectory())
    done("data", "convert", tmp_path / "kept", tmp_path / "sharegpt" / "all.json", "--to", "sharegpt")
    done("recipes", "copy", "eval/atlas", tmp_path / "recipes" / "mine.yaml")
    for name in ("index", "sharegpt", "recipes"):
        for path in (tmp_path / name, *(tmp_path / name).rglob("*")):
            # tantivy keeps its lists of files to their owner
            assert mode(path) == (folder if path.is_dir() else file) or path.parent.name == "text", path
    assert not others_may(tmp_path / "kept")


def test_a_narrower_umask_holds(tmp_path: Path) -> None:
    os.umask(0o077)
    write_text(tmp_path / "a" / "b", "shared")
    write_text(tmp_path / "c" / "d", "private", private=True)
    assert not others_may(tmp_path / "a", tmp_path / "c")


def test_a_draft_is_private_before_it_is_written(tmp_path: Path) -> None:
    with replacing(tmp_path / "new" / "a", private=True) as draft:
        assert mode(draft) == 0o600 and mode(draft.parent) == 0o700
        draft.write_text("x")
    images.save(Image.new("RGB", (4, 4)), tmp_path / "pictures", private=True)
    with locked(tmp_path / "locks" / ".lock", private=True):
        pass
    with Output(tmp_path / "output", "test", private=True).alone():
        pass
    assert not others_may(*(tmp_path / name for name in ("new", "pictures", "locks", "output")))
    with pytest.raises(RuntimeError), replacing(tmp_path / "new" / "b", private=True):
        raise RuntimeError
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a"]


def test_permissions_that_are_there_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    team = tmp_path / "team"
    team.mkdir(mode=0o770)
    (team / "images").mkdir(mode=0o770)
    TrajectoryStore(team).append(trajectory("a"))
    (team / "trajectories.jsonl").chmod(0o660)
    TrajectoryStore(team).append(trajectory("b"))
    TrajectoryStore(team).remove({"a"})
    assert mode(team) == mode(team / "images") == 0o770 and mode(team / "trajectories.jsonl") == 0o660
    with Cassette(team / "cache.sqlite"):
        pass
    (team / "cache.sqlite").chmod(0o660)
    asyncio.run(RecordedTextSearch(Words(), Recorder(Cassette(team / "cache.sqlite"))).search("x", 1))
    assert mode(team / "cache.sqlite") == 0o660


def test_a_log_of_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from deepmmsearch.errors import UserError
    from deepmmsearch.reproduce import study

    made = study.Study(tmp_path, tmp_path, seeds=(0,))
    with pytest.raises(UserError, match="failed"):
        study._run(study.Job("sft", ("nonsense",), tmp_path / "none"), made, [])
    assert (tmp_path / "sft.log").read_text() and not others_may(tmp_path / "sft.log")
