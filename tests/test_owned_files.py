"""What is not a command's own is neither overwritten nor deleted: it stays, or stops the command with its name. Names
that become folders lead nowhere else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_players import good, makers, write_seeds
from deepmmsearch.compose.data_build import DataRecipe
from deepmmsearch.compose.recipe import load_recipe
from deepmmsearch.errors import UserError
from deepmmsearch.filenames import unfit_name, unfit_names
from deepmmsearch.files import replacing
from deepmmsearch.store import FILE, TrajectoryStore
from test_store import a_trajectory

MINE = b"of the user, without a line end"


@pytest.fixture
def mine(tmp_path: Path) -> Iterator[Path]:
    """A folder of the user's that must stay as it is."""
    folder = tmp_path / "documents"
    (folder / "more").mkdir(parents=True)
    for name in ("letter.txt", "README.md", "train-00000.parquet", "more/notes.txt"):
        (folder / name).write_bytes(MINE)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    yield folder
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


UNFIT = [
    *(
        "",
        " ",
        ".",
        "..",
        "...",
        "../escaped",
        "/etc/escaped",
        "a/b",
        "a\\b",
        "..\\escaped",
        "C:escaped",
        "a\0b",
        "a\nb",
    ),
    *("con", "CON", "nul", "NUL.txt", "com1", "LPT9.tar.gz", "aux .x", "conin$", "name.", "name ", ".hidden", " name"),
    *(
        "x" * 300,
        "ä" * 150,
        "a\x1b[31m",
        "a\u202eb",
        "a\u200bb",
        "a\ud800b",
        "a*b",
        "a?b",
        'a"b',
        "a|b",
        "a<b>",
        "\u2028",
    ),
]
FIT = ["free", "50-50", "Größe", "日本語", "a.b", "with space", "می‌خواهم", "x" * 200, "con-1", "null", "common", "v1.0"]


@pytest.mark.parametrize("name", UNFIT)
def test_a_name_that_is_no_folder_of_its_own_is_refused(name: str) -> None:
    assert unfit_name(name)
    told = unfit_names("the variant", ["fine", name])
    assert told is not None and told.startswith("the variant ") and len(told) < 250


def test_names_of_all_languages_are_folders(tmp_path: Path) -> None:
    assert unfit_names("the variant", FIT) is None
    for name in FIT:
        (tmp_path / name).mkdir()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FIT)


@pytest.mark.parametrize(("first", "second"), [("Mix", "mix"), ("straße", "STRASSE"), ("é", "e\u0301"), ("ﬁt", "fit")])
def test_names_that_one_disk_takes_for_one_are_refused(first: str, second: str) -> None:
    assert "would share its folder with" in (unfit_names("the variant", [first, second]) or "")


def recipe(tmp_path: Path, **changes: Any) -> Path:
    path = tmp_path / "recipe.yaml"
    row = {"output": str(tmp_path / "build"), "seeds": {"worlds": 1}, "teacher": {"policy": "oracle"}, **changes}
    path.write_text(yaml.safe_dump(row), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["../../escaped", "/tmp/escaped", "dataset", "DataSet", "nul", "a\\b", "x" * 300])
def test_a_variant_stays_in_its_build_or_is_refused_before_anything_is_played(name: str, tmp_path: Path) -> None:
    path = recipe(tmp_path, balance={"variants": {"fine": {}, name: {}}})
    with pytest.raises(UserError, match=r"balance\.variants: the variant"):
        load_recipe(path, DataRecipe)
    assert [each.name for each in tmp_path.iterdir()] == ["recipe.yaml"]


# Data builds


@pytest.fixture
def built(tmp_path: Path) -> Any:
    """A small build, and how it is run again with changed settings."""
    pytest.importorskip("pyarrow")
    pytest.importorskip("imagehash")
    pytest.importorskip("matplotlib")
    from deepmmsearch.data.pipeline import build
    from test_data_pipeline import settings

    seeds = write_seeds(tmp_path / "seeds", [good(n, search=n % 2 == 0) for n in range(6)])

    def again(**changes: Any) -> Any:
        balance = {"search_share": None, "variants": {"free": {"search_share": 0.0}}, **changes}
        return build(settings(tmp_path, seeds, balance=balance), makers(tmp_path / "log"))

    return again


def test_files_of_the_user_stay_in_a_build(built: Any, tmp_path: Path) -> None:
    built()
    places = [
        *("dataset/notes.txt", "dataset/train-mine.parquet", "variants/free/mine.parquet", "variants/own/README.md"),
        *("6-unique/table.json", "6-unique/table.parquet", "7-balanced/report/mine.json", "mine/train-00000.parquet"),
    ]
    for place in places:
        path = tmp_path / "build" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(MINE)
    # every cheap stage is made anew, and fewer rows are left
    result = built(size=2)
    assert result.card["contents"]["train"]["rows"] + result.card["contents"]["validation"]["rows"] == 2
    assert [place for place in places if (tmp_path / "build" / place).read_bytes() != MINE] == []


@pytest.mark.parametrize("place", ["dataset/train-00000.parquet", "dataset/README.md", "variants/free/card.json"])
def test_a_file_in_the_place_of_a_data_set_stops_the_build_before_anything_is_played(
    place: str, built: Any, tmp_path: Path
) -> None:
    from deepmmsearch.outputs import Output

    # the folder of a build that has not come so far
    Output(tmp_path / "build", "data build").claim({})
    path = tmp_path / "build" / place
    path.parent.mkdir(parents=True)
    path.write_bytes(MINE)
    with pytest.raises(UserError, match=rf"{place} was not made by `deepmmsearch data build`"):
        built()
    assert path.read_bytes() == MINE and not (tmp_path / "log").exists()
    path.unlink()
    built()
    # put there afterwards
    extra = path.with_name("validation-00007.parquet")
    extra.write_bytes(MINE)
    with pytest.raises(UserError, match=r"validation-00007\.parquet was not made by"):
        built(size=2)
    assert extra.read_bytes() == MINE


def test_a_build_that_was_killed_knows_its_files(built: Any, tmp_path: Path) -> None:
    first = built()
    (first.dataset / "card.json").unlink()
    (first.dataset / "train-00000.parquet").write_bytes(b"half")
    assert built().card == first.card
    # as an earlier version left it
    (tmp_path / "build" / "7-balanced" / "report" / "files.json").unlink()
    assert built(size=2).card["contents"]["train"]["rows"] <= 2


# Every command


def test_outputs_are_refused_where_they_would_stand_on_files_of_the_user(mine: Path, tmp_path: Path) -> None:
    from commands import run

    store = tmp_path / "store"
    TrajectoryStore(store).append(a_trajectory())
    letter = mine / "letter.txt"
    commands: list[tuple[str | Path, ...]] = [
        ("atlas", "make", mine, "--seed", "1"),
        ("atlas", "teach", "--out", mine),
        ("demo", "--out", mine, "--policy", "oracle"),
        ("data", "build", recipe(tmp_path), f"output={mine}"),
        ("data", "convert", store, mine, "--to", "parquet"),
        ("data", "convert", store, letter, "--to", "sharegpt"),
        ("data", "convert", store, letter, "--to", "verl"),
        ("recipes", "copy", "eval/atlas", letter),
        ("index", "build", mine, "--out", mine),
        ("reproduce", "eval", "--out", mine),
        ("cache", "import", letter, store / FILE),
        ("merge", store, store, mine),
    ]
    results = [run(*command) for command in commands]
    told = [str(result.exception) if isinstance(result.exception, UserError) else None for result in results]
    assert [command for command, said in zip(commands, told, strict=True) if said is None] == []
    assert [said for said in told if said and str(mine) not in said] == []


def test_a_file_that_is_not_a_store_keeps_its_last_line(tmp_path: Path) -> None:
    for mine in (MINE, b'{"id": 1}\n{"id": 2}', b'[{"version": 1}]', b"\n" + MINE):
        (tmp_path / FILE).write_bytes(mine)
        with pytest.raises(UserError, match=r"stored trajector"):
            TrajectoryStore(tmp_path).append(a_trajectory())
        assert (tmp_path / FILE).read_bytes() == mine
    # a first line of ours that is not whole
    (tmp_path / FILE).write_bytes(b'{"version": 1, "id": "q')
    TrajectoryStore(tmp_path).append(a_trajectory("q2"))
    assert TrajectoryStore(tmp_path).ids() == ("q2",)


def test_what_a_link_leads_to_stays_when_a_folder_is_replaced(mine: Path, tmp_path: Path) -> None:
    folder = tmp_path / "merged"
    folder.symlink_to(mine)
    with replacing(folder) as draft:
        draft.mkdir()
        (draft / "letter.txt").write_text("ours")
    assert not folder.is_symlink() and [path.name for path in folder.iterdir()] == ["letter.txt"]


def test_links_of_the_user_stay_when_a_folder_is_replaced(mine: Path, tmp_path: Path) -> None:
    folder = tmp_path / "merged"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "theirs").symlink_to(mine)
    (folder / "gone").symlink_to(tmp_path / "nowhere")
    with replacing(folder) as draft:
        draft.mkdir()
    assert (folder / "deep" / "theirs").readlink() == mine and (folder / "gone").is_symlink()


def test_a_folder_that_is_linked_from_another_disk_is_written_there(tmp_path: Path) -> None:
    from deepmmsearch.atlas.world import make_world
    from deepmmsearch.atlas.world_files import MARK, write_atlas

    (tmp_path / "large-disk").mkdir()
    (tmp_path / "world").symlink_to(tmp_path / "large-disk")
    write_atlas(make_world(3, "eval", countries=12, famous=2), tmp_path / "world")
    assert (tmp_path / "world").is_symlink() and (tmp_path / "large-disk" / MARK).is_file()


def test_the_defaults_may_lie_behind_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from commands import done

    (tmp_path / "dotfiles.toml").write_text("# mine\n")
    (tmp_path / "config.toml").symlink_to(tmp_path / "dotfiles.toml")
    monkeypatch.setenv("DEEPMMSEARCH_CONFIG", str(tmp_path / "config.toml"))
    done("config", "set", "model", "mine/model")
    assert (tmp_path / "config.toml").is_symlink() and "mine/model" in (tmp_path / "dotfiles.toml").read_text()


def test_entries_of_the_user_stay_in_dataset_info(tmp_path: Path) -> None:
    from deepmmsearch.data.convert import write_sharegpt

    info = tmp_path / "dataset_info.json"
    info.write_text(json.dumps({"mine": {"file_name": "other.json"}}))
    write_sharegpt([a_trajectory()], tmp_path / "ours.json")
    assert json.loads(info.read_text())["mine"] == {"file_name": "other.json"}
    for damaged in ("[]", "{", "null"):
        info.write_text(damaged)
        with pytest.raises(UserError, match=r"dataset_info\.json"):
            write_sharegpt([a_trajectory()], tmp_path / "new.json")
        assert info.read_text() == damaged and not (tmp_path / "new.json").exists()
    info.write_text(json.dumps({"mine": {"file_name": "other.json"}}))
    with pytest.raises(UserError, match="describes a data set 'mine' of another file"):
        write_sharegpt([a_trajectory()], tmp_path / "mine.json")
    assert not (tmp_path / "mine.json").exists()


def test_a_question_of_a_world_cannot_write_elsewhere(tmp_path: Path) -> None:
    from dataclasses import replace

    from deepmmsearch.atlas.world import make_world
    from deepmmsearch.atlas.world_files import write_atlas

    question = replace(a_trajectory().question, id="../../escaped")
    with pytest.raises(UserError, match="needs a file's name"):
        write_atlas(make_world(3, "eval", countries=12, famous=2), tmp_path / "world", [question])
    assert list(tmp_path.iterdir()) == []
