from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deepmmsearch.files import locked, remove_drafts, replacing, write_json, write_text


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    with pytest.raises(RuntimeError), replacing(path) as draft:
        draft.write_text("half")
        raise RuntimeError
    assert list(path.parent.iterdir()) == []
    write_text(path, "first")
    with pytest.raises(RuntimeError), replacing(path) as draft:
        draft.write_text("half")
        raise RuntimeError
    assert [path] == list(path.parent.iterdir()) and path.read_text() == "first"
    write_json(path, {"a": "ä"}, durable=True)
    assert path.read_text(encoding="utf-8") == '{\n "a": "ä"\n}\n'


@pytest.mark.skipif(sys.platform == "win32", reason="has no such permissions")
def test_permissions_stay(tmp_path: Path) -> None:
    path, other = tmp_path / "shared.json", tmp_path / "new.json"
    write_text(path, "1")
    other.touch()
    assert path.stat().st_mode == other.stat().st_mode, "a new file is as readable as any"
    path.chmod(0o640)
    write_text(path, "2")
    assert path.stat().st_mode & 0o777 == 0o640


def test_writers_of_one_path_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    texts = [str(number) * 100_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: write_text(path, text), texts))
    assert path.read_text() in texts and list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_at_once_and_keeps_what_others_put_there(tmp_path: Path) -> None:
    folder = tmp_path / "merged"
    for text in ("first", "second"):
        with replacing(folder) as draft:
            draft.mkdir()
            (draft / "weights").write_text(text)
            assert not (folder / "weights").exists() or (folder / "weights").read_text() == "first"
        (folder / "notes").mkdir(exist_ok=True)
        (folder / "notes" / "mine.txt").write_text("of the user")
    assert (folder / "weights").read_text() == "second" and (folder / "notes" / "mine.txt").read_text() == "of the user"
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_takes_the_place_of_no_file(tmp_path: Path) -> None:
    path = tmp_path / "merged"
    path.write_text("of the user")
    with pytest.raises(OSError), replacing(path) as draft:
        draft.mkdir()
    assert path.read_text() == "of the user" and list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    script = "import os, sys, pathlib; from deepmmsearch.files import replacing\n"
    script += "with replacing(pathlib.Path(sys.argv[1])) as draft:\n draft.write_text('half'); os._exit(9)"
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "run.json")], check=False)
    (tmp_path / "mine.part").write_text("of the user")
    assert len(list(tmp_path.iterdir())) == 2
    remove_drafts(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.part"]


def test_one_process_holds_a_lock(tmp_path: Path) -> None:
    path = tmp_path / "run" / ".lock"
    script = "import sys, pathlib; from deepmmsearch.files import locked\n"
    script += "with locked(pathlib.Path(sys.argv[1]), wait=False) as mine:\n print(mine)"

    def another() -> str:
        return subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True).stdout.strip()

    with locked(path) as mine:
        assert mine and another() == "False"
    assert another() == "True"
