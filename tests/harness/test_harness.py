"""Programs of others read what we write, and ask what we offer: verl 0.9, LLaMA-Factory 0.9, lmms-eval 0.7 and a server
of S3's protocol, each in an environment of its own under build/harness (`make test-harness`)."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.endpoints import endpoint, said

from deepmmsearch.bundled import BUNDLED
from deepmmsearch.data.convert import verl_question, write_sharegpt, write_verl
from deepmmsearch.prompts import load_prompt
from deepmmsearch.types import (
    Answer,
    Completion,
    Exchange,
    ImageSearch,
    Observation,
    Question,
    Trajectory,
    Turn,
)

pytestmark = pytest.mark.harness

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PUBLIC = ROOT.parent / "shared" / "data" / "fvqa_mini.parquet"


def python(name: str) -> str:
    """The interpreter of an environment."""
    found = ROOT / "build" / "harness" / name / "bin" / "python"
    if not (found.parent.parent / ".done").exists():
        pytest.skip(f"{name} is not installed: make test-harness")
    return str(found)


def run(command: list[str], folder: Path, timeout: float = 600) -> str:
    quiet = {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "HOME": str(folder), "PATH": os.environ["PATH"]}
    done = subprocess.run(command, cwd=folder, env=quiet, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def rows(printed: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("ROW ")) for line in printed.splitlines() if line.startswith("ROW ")]


def picture(colour: str, size: tuple[int, int] = (120, 90)) -> Image.Image:
    return Image.new("RGB", size, colour)


def test_verl_reads_every_row(tmp_path: Path) -> None:
    asked = [
        Question("a", "Whose flag, <image> or not?", (picture("red"),), ("Veld", "the Veld")),
        Question("b", "Which of both?", (picture("red"), picture("blue", (60, 200))), ("the first",), {"k": [1, "ä"]}),
        Question("c", "No picture?", (), ("yes",), history=(Exchange("Before?", "Yes."),)),
    ]
    write_verl(asked, tmp_path / "ours.parquet")
    told = rows(run([python("verl"), str(HERE / "verl_child.py"), "ours.parquet", str(BUNDLED)], tmp_path))
    assert [row["pictures"] for row in told] == [[[120, 90]], [[120, 90], [60, 200]], []]
    assert [row["rendered"].count("<|image_pad|>") for row in told] == [1, 2, 0]
    assert [row["reward_model"]["ground_truth"] for row in told] == ["Veld", "the first", "yes"]
    assert "Before?" in told[2]["rendered"] and told[1]["extra_info"]["id"] == "b"


@pytest.mark.skipif(not PUBLIC.exists(), reason="the five public rows are not here")
def test_verl_reads_public_rows_that_went_through_us(tmp_path: Path) -> None:
    import pyarrow.parquet as parquet

    asked = [verl_question(row, number) for number, row in enumerate(parquet.read_table(PUBLIC).to_pylist())]
    write_verl(asked, tmp_path / "again.parquet")
    told = rows(run([python("verl"), str(HERE / "verl_child.py"), "again.parquet", str(BUNDLED)], tmp_path))
    assert [row["pictures"] for row in told] == [[list(i.size) for i in q.images] for q in asked]
    assert [row["reward_model"]["ground_truth"] for row in told] == [q.answers[0] for q in asked]


def test_llama_factory_teaches_what_the_policy_wrote(tmp_path: Path) -> None:
    prompt = load_prompt("deepmmsearch-r1")
    look = "<reason>I look.</reason><img_search><img></img_search>"
    know = "<reason>I know.</reason><answer>Veld</answer>"
    seen = Observation("[1] match: a flag", images=(picture("blue", (60, 200)),))
    pictured = Question("a", "Whose flag, <image> or not?", (picture("red"), picture("green")))
    played = [
        Trajectory(
            pictured,
            prompt,
            turns=(Turn(Completion(look), ImageSearch(), seen), Turn(Completion(know), Answer("Veld"))),
            stop="answer",
        ),
        Trajectory(
            Question("b", "No picture?", metadata={"other": "fields"}),
            prompt,
            turns=(Turn(Completion(know), Answer("Veld")),),
            stop="answer",
        ),
    ]
    write_sharegpt(played, tmp_path / "made.json")
    command = [python("factory"), str(HERE / "factory_child.py"), str(tmp_path), "made", str(BUNDLED), "out"]
    told = rows(run(command, tmp_path))
    assert [(row["pictures"], row["placeholders"]) for row in told] == [(3, 3), (0, 0)]

    def letters(text: str) -> str:
        # the bundled tokenizer decodes words with blanks between them
        return "".join(text.split())

    end = "<|im_end|>"
    assert [letters(row["taught"]) for row in told] == [letters(look + end + know + end), letters(know + end)]


def test_lmms_eval_plays_a_task_with_the_agent(tmp_path: Path) -> None:
    for number, colour in enumerate(("red", "green", "blue")):
        picture(colour).save(tmp_path / f"{number}.png")
    docs = [{"question": "Which colour?", "answer": c, "image": f"{n}.png"} for n, c in enumerate(("red", "x", "blue"))]
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    (tmp_path / "helpers.py").write_text(
        "from PIL import Image\n\n\ndef visual(doc):\n    return [Image.open(doc['image']).convert('RGB')]\n\n\n"
        "def text(doc, kwargs=None):\n    return doc['question']\n"
    )
    (tmp_path / "colours.yaml").write_text(
        f"""task: colours
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{tmp_path}/docs.jsonl"}}}}
test_split: test
output_type: generate_until
doc_to_visual: !function helpers.visual
doc_to_text: !function helpers.text
doc_to_target: answer
generation_kwargs: {{max_new_tokens: 16}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
metadata: [{{version: 0.0}}]
"""
    )

    def reply(asked: dict[str, Any]) -> Any:
        (part,) = (p for p in asked["messages"][1]["content"] if p["type"] == "image_url")
        shown = Image.open(io.BytesIO(base64.b64decode(part["image_url"]["url"].partition(",")[2])))
        red, _, blue = shown.convert("RGB").getpixel((3, 3))  # type: ignore[misc]
        name = "red" if red > 200 else "blue" if blue > 200 else "green"
        return said(f"<reason>I see.</reason><answer>{name}</answer>")

    with endpoint(reply) as served:
        (tmp_path / "agent.yaml").write_text(
            f'policy: {{kind: chat, base_url: "{served.url}", model: vlm}}\ntools: none\ntrajectories: played\n'
        )
        command = [python("lmms"), "-m", "lmms_eval", "--model", "deepmmsearch", "--tasks", "colours"]
        command += ["--model_args", "recipe=agent.yaml", "--include_path", str(tmp_path), "--output_path", "out"]
        run(command, tmp_path)
        assert len(served.asked) == 3
    (found,) = (tmp_path / "out").rglob("*_results.json")
    assert json.loads(found.read_text())["results"]["colours"]["exact_match,none"] == pytest.approx(2 / 3, abs=1e-3)
    assert len((tmp_path / "played" / "trajectories.jsonl").read_text().splitlines()) == 3


def test_runs_and_data_sets_in_s3(tmp_path: Path) -> None:
    told = run(["env", f"PYTHONPATH={HERE.parent}", python("s3"), str(HERE / "s3_child.py"), str(tmp_path)], tmp_path)
    parts = [line for line in told.splitlines() if line.startswith("OK ")]
    assert parts == ["OK evaluations", "OK killed", "OK large", "OK refusals", "OK keys"]
