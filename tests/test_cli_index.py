"""deepmmsearch index, as a user types it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

pytest.importorskip("tantivy")
pytest.importorskip("cv2")


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from deepmmsearch.cli import main; main()", "index", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cli")
    (root / "docs").mkdir()
    (root / "docs" / "veld.html").write_text(
        "<title>Veld [bold]</title><p>The capital of Veld is Oru.</p><img src=veld.png alt='Flag of Veld'>"
    )
    image = Image.new("RGB", (160, 100), "red")
    ImageDraw.Draw(image).rectangle([0, 0, 50, 100], fill="white")
    image.save(root / "docs" / "veld.png")
    (root / "docs" / "empty.txt").write_text("")
    built = run(root, "build", "docs")
    assert built.returncode == 0, built.stderr
    assert "2 added" in built.stdout and "1 empty file" in built.stdout
    return root


def test_search_words_and_picture(folder: Path) -> None:
    found = run(folder, "search", "capital of Veld")
    assert "Veld [bold]" in found.stdout and "The capital of Veld is Oru." in found.stdout
    line = json.loads(run(folder, "search", "--image", "docs/veld.png", "--json").stdout.splitlines()[0])
    assert line["title"] == "Flag of Veld" and line["matched"] is True and line["url"] == "veld.html"
    assert set(line) == {"title", "url", "score", "matched", "matched_by", "snippet"}
    assert "Nothing found." in run(folder, "search", "zzz").stdout


def test_add_stats_remove(folder: Path) -> None:
    (folder / "extra.txt").write_text("Trams are green.")
    assert "1 added" in run(folder, "add", "extra.txt").stdout
    assert "files      3" in run(folder, "stats").stdout
    assert json.loads(run(folder, "stats", "--json").stdout)["files"] == 3
    assert "Files removed: 1." in run(folder, "remove", "extra.txt").stdout


def test_an_index_of_an_older_version_says_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("Der Turm der Feuerwehr steht in der Stadt.")
    assert "parts" not in run(tmp_path, "build", "docs", "--out", "old", "--word-parts", "off").stdout
    assert (
        "built with --word-parts off" in run(tmp_path, "build", "docs", "--out", "old", "--word-parts", "auto").stdout
    )
    meta = tmp_path / "old" / "meta.json"
    meta.write_text(json.dumps({k: v for k, v in json.loads(meta.read_text()).items() if k != "word_parts"}))
    for given in ((), ("--word-parts", "auto")):
        built = run(tmp_path, "build", "docs", "--out", "old", *given)
        assert built.returncode == 0 and built.stdout.count("was built by an older version: words are not found") == 1


def test_what_is_not_added_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("The tower stands in the town.")
    assert run(tmp_path, "build", "docs", "--out", "ai").returncode == 0
    (tmp_path / "empty.txt").write_text("")
    for path, said in (("empty.txt", "Nothing was added"), ("ai", "part of the index itself")):
        added = run(tmp_path, "add", path, "--index", "ai")
        assert added.returncode == 2 and said in added.stderr
    assert "files      1" in run(tmp_path, "stats", "--index", "ai").stdout


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["search", "x", "--index", "docs"], "is not an index"),
        (["stats", "--index", "none"], "does not exist"),
        (["search"], "Give either"),
        (["search", "--image", "none.png"], "none.png"),
        (["search", "--image", "docs/veld.html"], "not a picture"),
        (["build", "nowhere"], "does not exist"),
        (["build", "docs", "--passage", "500"], "other settings"),
        (["add", "nowhere.txt"], "does not exist"),
        (["remove", "nowhere.txt"], "not in the index"),
    ],
)
def test_user_errors_are_one_sentence_and_exit_2(folder: Path, arguments: list[str], word: str) -> None:
    result = run(folder, *arguments)
    assert result.returncode == 2 and word in result.stderr
    assert "Traceback" not in result.stderr and len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("name", ["build", "add", "remove", "stats", "search", "serve"])
def test_every_command_shows_an_example(folder: Path, name: str) -> None:
    assert "Example:" in run(folder, name, "--help").stdout
