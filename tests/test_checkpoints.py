"""Whatever is wrong with a checkpoint or an adapter is one sentence, from every command, and nothing is written."""

from __future__ import annotations

import ast
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import PeftModel
from PIL import Image
from safetensors.torch import load_file, save_file
from tests import test_sft
from tests.checkpoints import tiny_checkpoint

from commands import run
from deepmmsearch.engine import Index
from deepmmsearch.errors import UserError
from deepmmsearch.policies.local import LocalPolicy
from deepmmsearch.policies.local.adapter import load_adapter, save_adapter
from deepmmsearch.policies.local.checkpoint import load_checkpoint, load_tokenizer, read_parts
from deepmmsearch.store import TrajectoryStore
from deepmmsearch.train.lora import Lora, prepare_model

SOURCE = Path(__file__).parents[1] / "src" / "deepmmsearch"


def cut_off(folder: Path) -> Path:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    return folder


def incomplete(folder: Path) -> Path:
    """A whole file that lacks what another part of a download would have brought."""
    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if "layers.1." not in name}
    assert 0 < len(kept) < len(tensors)
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    return folder


def misspelt(folder: Path) -> Path:
    return folder.with_name(folder.name[:-1])


def card(text: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / "agent.json").write_text(text)
        return folder

    return write


def without(name: str) -> Callable[[Path], Path]:
    def remove(folder: Path) -> Path:
        (folder / name).unlink()
        return folder

    return remove


def own_code(folder: Path) -> Path:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModelForImageTextToText": "mine.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text("raise SystemExit('this code must not run')")
    return folder


DAMAGES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "cut-off weights": (cut_off, "missing or damaged"),
    "typing error": (misspelt, r"Unknown model folder .* Did you mean"),
    "card is not JSON": (card('{"prompt": '), "cannot be read as JSON"),
    "card of a wrong type": (card('{"max_pixels": "many"}'), "a whole number above 0 is expected"),
    "card with an unknown key": (card('{"max_pixel": 784}'), "Did you mean 'max_pixels'"),
}
OTHERS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "incomplete weights": (incomplete, r"are incomplete: \d+ tensors are missing"),
    "no weights": (without("model.safetensors"), "There are no weights"),
    "no tokenizer": (without("tokenizer.json"), "No tokenizer could be loaded"),
    "no image processor": (without("preprocessor_config.json"), "No image processor could be loaded"),
    "code of its own": (own_code, "never done here"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything but the checkpoint that the commands need."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("place")
    Image.effect_noise((90, 60), 60).convert("RGB").save(folder / "flag.png")
    row = {"id": "q", "question": "Which?", "answer": "Veld", "image": "flag.png"}
    (folder / "questions.jsonl").write_text(json.dumps(row) + "\n")
    (folder / "site").mkdir()
    (folder / "site" / "veld.md").write_text("# Veld\n\nThe capital of Veld is Moru.\n")
    Index.build(folder / "site", folder / "index")
    store = TrajectoryStore(folder / "played")
    for number, played in enumerate(test_sft.trajectories()):
        store.append(played, str(number))
    tiny_adapter(tiny_checkpoint(folder / "base"), folder / "adapter")
    return folder


def tiny_adapter(base: Path, folder: Path) -> None:
    model = prepare_model(load_checkpoint(base, torch.float32).model, Lora(r=4), ("vision", "projector"), 0)
    assert isinstance(model, PeftModel)
    save_adapter(model, folder)


def commands(model: Path, place: Path, out: Path) -> dict[str, list[Any]]:
    sft = {"model": str(model), "data": [str(place / "played")], "output": str(out)}
    # the world that measures would be made before the weights are loaded
    sft |= {"evaluate_every": 1, "evaluate_on": {"folder": str(out / "worlds"), "questions": 4}}
    grpo = {"model": str(model), "output": str(out), "atlas": {"folder": str(out / "worlds"), "questions": 4}}
    for name, recipe in (("sft", sft), ("grpo", grpo)):
        out.with_name(f"{out.name}.{name}.yaml").write_text(yaml.safe_dump(recipe))
    return {
        "ask": ["ask", place / "flag.png", "Which?", "--tools", "none", "--save", out, "--model", model],
        "sft": ["sft", out.with_name(f"{out.name}.sft.yaml")],
        "grpo": ["grpo", out.with_name(f"{out.name}.grpo.yaml")],
        "merge": ["merge", model, place / "adapter", out],
    }


@pytest.fixture(scope="module", params=["qwen2_5_vl", "llava", "smolvlm"])
def sound(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("sound") / "checkpoint", request.param, max_new_tokens=8)


@pytest.mark.parametrize("command", ["ask", "sft", "grpo", "merge"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_one_sentence(
    sound: Path, place: Path, tmp_path: Path, damage: str, command: str
) -> None:
    spoil, expected = DAMAGES[damage]
    model, out = spoil(Path(shutil.copytree(sound, tmp_path / "checkpoint"))), tmp_path / "out"
    result = run(*commands(model, place, out)[command])
    assert isinstance(result.exception, UserError), repr(result.exception)
    assert re.search(expected, str(result.exception)) and "\n" not in str(result.exception)
    assert not out.exists() and not list(tmp_path.glob("*.part*"))


@pytest.mark.parametrize("damage", OTHERS)
def test_other_damage_is_one_sentence_too(place: Path, tmp_path: Path, damage: str) -> None:
    spoil, expected = OTHERS[damage]
    model = spoil(Path(shutil.copytree(place / "base", tmp_path / "checkpoint")))
    with pytest.raises(UserError, match=expected) as caught:
        load_checkpoint(model, torch.float32)
    assert "\n" not in str(caught.value)


def test_a_text_model_is_not_taken(place: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(place / "base", tmp_path / "text"))
    (model / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(UserError, match="is a llama model, but a vision-language model is expected"):
        read_parts(model)
    with pytest.raises(UserError, match="is a file, but a checkpoint is a folder"):
        read_parts(model / "config.json")


def test_a_path_into_a_folder_that_is_not_there_is_no_name_on_the_hub() -> None:
    with pytest.raises(UserError, match="Unknown model folder 'rums/atlas/sft/merged'"):
        read_parts("rums/atlas/sft/merged")


def test_a_processor_of_another_model_is_found_before_anything_starts(tmp_path: Path) -> None:
    model = tiny_checkpoint(tmp_path / "llava", "llava")
    settings = json.loads((model / "preprocessor_config.json").read_text())
    larger = {"size": {"shortest_edge": 56}, "crop_size": {"height": 56, "width": 56}}
    (model / "preprocessor_config.json").write_text(json.dumps(settings | larger))
    with pytest.raises(UserError, match="makes squares of 56 pixels, but the model looks at 28"):
        read_parts(model)


def test_a_template_of_before_2025_is_found(place: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(place / "base", tmp_path / "old"))
    template = (model / "chat_template.jinja").read_text()
    (model / "chat_template.jinja").unlink()
    assert load_tokenizer(str(model))[1].chat_template is None
    (model / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    assert load_tokenizer(str(model))[1].chat_template == template


# adapters


def other_names(folder: Path) -> None:
    """Of a deeper model: more layers than the base has."""
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    save_file({**tensors, **{n.replace("layers.1.", "layers.2."): t.clone() for n, t in tensors.items()}}, path)


def fewer_tensors(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    save_file(dict(list(load_file(path).items())[:-1]), path)


def damaged_adapter(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def settings_of_text(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{")


def of_another_base(folder: Path) -> None:
    """The same shapes and names, other weights."""
    shutil.rmtree(folder)
    tiny_adapter(tiny_checkpoint(folder.with_name("other"), seed=1), folder)


ADAPTERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing": (shutil.rmtree, r"is not an adapter: there is no adapter_config\.json"),
    "no weights": (lambda folder: (folder / "adapter_model.safetensors").unlink(), "there is no adapter_model"),
    "settings": (settings_of_text, "cannot be read"),
    "damaged": (damaged_adapter, "missing or damaged"),
    "deeper": (other_names, "does not fit the model"),
    "incomplete": (fewer_tensors, "does not fit the model"),
    "another base": (of_another_base, r"does not fit the model \(it was made for other weights\)"),
}


@pytest.mark.parametrize("damage", ADAPTERS)
def test_a_damaged_adapter_is_one_sentence(place: Path, tmp_path: Path, damage: str) -> None:
    spoil, expected = ADAPTERS[damage]
    adapter, out = Path(shutil.copytree(place / "adapter", tmp_path / "adapter")), tmp_path / "out"
    spoil(adapter)
    merged = run("merge", place / "base", adapter, out).exception
    with pytest.raises(UserError) as loaded:
        LocalPolicy.load(place / "base", adapter=adapter)
    for error in (merged, loaded.value):
        assert isinstance(error, UserError), repr(error)
        assert re.search(expected, str(error)) and "\n" not in str(error)
    assert not out.exists()
    fitting = load_adapter(load_checkpoint(place / "base", torch.float32).model, place / "adapter")
    assert fitting.active_adapter == "default"


# one loader


def test_models_are_loaded_by_one_module_that_runs_no_foreign_code() -> None:
    local = SOURCE / "policies" / "local"
    found: dict[str, list[str]] = {}
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(attr="from_pretrained")):
                    found.setdefault(path.name if path.parent == local else str(path), []).append(ast.unparse(node))
    verl = found.pop(str(SOURCE / "scale" / "verl" / "episode_player.py"))
    assert verl == ["GenerationConfig.from_pretrained(source)"], "figures alone: there is no code to run"
    assert set(found) == {"checkpoint.py", "adapter.py"}
    assert all("**NO_CODE" in call for call in found["checkpoint.py"]), found
    assert all(call.startswith("PeftModel.") for call in found["adapter.py"]), found
    assert [c for c in found["checkpoint.py"] if "ImageProcessor" in c and "backend='pil'" not in c] == []
