from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from deepmmsearch import digests
from deepmmsearch.digests import checkpoint_digest, contents_of, prompt_content, questions_content
from deepmmsearch.engine import Index
from deepmmsearch.prompts import load_prompt
from deepmmsearch.types import Question


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 40)
    (folder / "README.md").write_text("About it.")
    return folder


def test_a_checkpoint_is_told_by_what_is_in_it_not_by_its_place(checkpoint: Path, tmp_path: Path) -> None:
    before = checkpoint_digest(checkpoint)
    shutil.copytree(checkpoint, tmp_path / "moved")
    (tmp_path / "moved" / "README.md").write_text("Something else.")
    assert checkpoint_digest(str(tmp_path / "moved")) == before
    (checkpoint / "agent.json").write_text('{"prompt": "atlas"}')
    with_card = checkpoint_digest(checkpoint)
    (checkpoint / "agent.json").write_text('{"prompt": "other"}')
    assert len({before, with_card, checkpoint_digest(checkpoint)}) == 3


@pytest.mark.parametrize("place", [0, 5_000, -1])
def test_large_weights_are_told_by_pieces(checkpoint: Path, monkeypatch: pytest.MonkeyPatch, place: int) -> None:
    monkeypatch.setattr(digests, "_PIECE", 64)
    assert (checkpoint / "model.safetensors").stat().st_size > 64 * 64
    before = checkpoint_digest(checkpoint)
    weights = bytearray((checkpoint / "model.safetensors").read_bytes())
    # training changes weights everywhere: here a run of them
    for number in range(place % len(weights), min(len(weights), place % len(weights) + 200)):
        weights[number] ^= 1
    (checkpoint / "model.safetensors").write_bytes(weights)
    assert checkpoint_digest(checkpoint) != before
    (checkpoint / "model.safetensors").write_bytes(weights + b"1")
    assert checkpoint_digest(checkpoint) != before


def test_a_name_on_the_hub_is_told_by_the_revision_that_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert checkpoint_digest("tiny/model") == "" == checkpoint_digest("no name: at/all/of it")
    revision = "0123456789abcdef0123456789abcdef01234567"
    folder = tmp_path / "models--tiny--model"
    (folder / "snapshots" / revision).mkdir(parents=True)
    (folder / "snapshots" / revision / "config.json").write_text("{}")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(revision)
    assert checkpoint_digest("tiny/model") == revision


def test_an_index_is_told_by_its_files_and_settings(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "veld.md").write_text("# Veld\n\nThe capital of Veld is Moru.\n")
    one = Index.build(tmp_path / "site", tmp_path / "one")
    assert Index.build(tmp_path / "site", tmp_path / "two").digest() == one.digest()
    settings = {"tools": {"index": str(tmp_path / "one"), "text_hits": 5}}
    before = contents_of(settings)
    assert before["tools"]["index"] == {"name": str(tmp_path / "one"), "digest": one.digest()}
    (tmp_path / "site" / "veld.md").write_text("# Veld\n\nThe capital of Veld is Oslo.\n")
    Index.build(tmp_path / "site", tmp_path / "one")
    assert contents_of(settings) != before


def test_settings_name_checkpoints_wherever_they_stand(checkpoint: Path) -> None:
    found = contents_of({"many": [{"model": str(checkpoint)}], "adapter": None, "name": str(checkpoint)})
    assert found["many"][0]["model"] == {"name": str(checkpoint), "digest": checkpoint_digest(checkpoint)}
    assert found["adapter"] is None and found["name"] == str(checkpoint)


def test_questions_are_told_by_everything_that_is_asked_and_accepted() -> None:
    asked = Question("q", "Which?", (Image.new("RGB", (4, 4), "red"),), ("Veld",), {"kind": "look"})
    others = (
        replace(asked, id="p"),
        replace(asked, text="Who?"),
        replace(asked, images=(Image.new("RGB", (4, 4), "blue"),)),
        replace(asked, answers=("Oslo",)),
        replace(asked, metadata={"kind": "text"}),
    )
    assert questions_content([asked]) == questions_content(iter([asked]))
    assert questions_content([asked])["name"] == "1 questions"
    found = {
        questions_content(rows)["digest"] for rows in ([asked], [asked, asked], [], *([other] for other in others))
    }
    assert len(found) == 8


def test_a_prompt_is_told_by_its_texts() -> None:
    prompt = load_prompt("atlas")
    assert prompt_content(prompt) == prompt_content(load_prompt("atlas")) and prompt_content(prompt)["name"] == "atlas"
    assert prompt_content(replace(prompt, user="{question}?")) != prompt_content(prompt)
    assert json.dumps(prompt_content(prompt))
