"""The recipes that come with the package, by name: in a clone, in a wheel, wherever a recipe is expected."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from commands import done, run
from deepmmsearch.compose import shipped
from deepmmsearch.compose.shipped import find_recipe, shipped_recipes
from deepmmsearch.errors import UserError

ROOT = Path(__file__).parent.parent


def test_they_are_listed_shown_and_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [json.loads(line) for line in done("recipes", "list", "--json").splitlines()]
    kinds = {row["name"]: row["kind"] for row in rows}
    assert set(kinds) == {p.relative_to(ROOT / "recipes").with_suffix("").as_posix() for p in ROOT.glob("recipes/*/*")}
    assert (kinds["eval/atlas"], kinds["atlas/grpo"], kinds["atlas/sft"]) == ("eval", "grpo", "sft")
    assert (kinds["data/atlas"], kinds["atlas/base"], kinds["tools/jina"]) == ("data", "pretrain", "tools")
    assert all(row["about"] for row in rows) and "eval/atlas" in done("recipes", "list")
    text = (ROOT / "recipes/eval/atlas.yaml").read_text(encoding="utf-8")
    assert done("recipes", "show", "eval/atlas") == text
    assert "Wrote atlas.yaml" in done("recipes", "copy", "eval/atlas")
    assert (tmp_path / "atlas.yaml").read_text(encoding="utf-8") == text
    again = run("recipes", "copy", "eval/atlas")
    assert isinstance(again.exception, UserError) and "is there already" in str(again.exception)
    done("recipes", "copy", "eval/atlas", "mine/new.yaml")
    assert (tmp_path / "mine/new.yaml").is_file()


def test_a_file_of_ones_own_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("eval/atlas", "eval/atlas.yaml", "recipes/eval/atlas.yaml"):
        assert find_recipe(name) == ROOT / "recipes/eval/atlas.yaml"
    assert find_recipe("paper/sft_qwen2.5-vl-7b").name == "sft_qwen2.5-vl-7b.yaml"
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval/atlas.yaml").write_text("output: mine\n")
    assert find_recipe("eval/atlas") == Path("eval/atlas.yaml")
    for name, hint in (("eval/atlsa", "Did you mean 'eval/atlas'"), ("", "recipes list"), ("eval", "recipes list")):
        with pytest.raises(UserError, match=hint):
            find_recipe(name)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("eval", "eval/atlas", "conccurrency=1"), "Did you mean 'concurrency'"),
        (("data", "build", "data/atlas", "seeds.wrlds=1"), "Did you mean 'seeds.worlds'"),
        (("sft", "atlas/sft", "modle=x"), "Did you mean 'model'"),
        (("grpo", "atlas/grpo", "atlas.wrlds=1"), "Did you mean 'atlas.worlds'"),
        (("pretrain", "atlas/base", "hiden=1"), "Did you mean 'hidden'"),
        (("tools", "check", "serper", "--tools", "tools/serpr"), "Did you mean 'tools/serper'"),
    ],
)
def test_every_command_takes_a_name(
    command: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*command)
    assert isinstance(result.exception, UserError) and said in str(result.exception), result.exception


def test_the_wheel_carries_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("hatchling")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        inside = {name for name in packed.namelist() if name.startswith("deepmmsearch/recipes/")}
        assert inside == {f"deepmmsearch/recipes/{name}.yaml" for name in shipped_recipes()}
        packed.extractall(tmp_path / "installed", inside)
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path / "installed/deepmmsearch")
    assert find_recipe("eval/atlas") == tmp_path / "installed/deepmmsearch/recipes/eval/atlas.yaml"
