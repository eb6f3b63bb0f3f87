"""Benchmarks that are published encrypted: rows in their form become questions, and nothing is kept in the clear."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow")

from commands import run
from data_files import picture_bytes, write_lines, write_picture, write_table
from deepmmsearch.agent import Toolbox
from deepmmsearch.agent.runner import AgentWorkflow
from deepmmsearch.compose.eval_recipe import EvalRecipe
from deepmmsearch.compose.evaluate import play_recipe
from deepmmsearch.compose.recipe import load_recipe
from deepmmsearch.data.exchange import Chosen, write_as
from deepmmsearch.data.pipeline import Makers, build
from deepmmsearch.data.published import BENCHMARKS
from deepmmsearch.data.reader import read_questions, read_trajectories
from deepmmsearch.data.recipe import AgainstTable, BuildSettings
from deepmmsearch.errors import UserError
from deepmmsearch.eval.figures import load_results
from deepmmsearch.eval.report import write_reports
from deepmmsearch.eval.run import BenchmarkInfo, Described, EvalRun, evaluate
from deepmmsearch.judge import Verdict
from deepmmsearch.prompts import load_prompt
from deepmmsearch.sealing import combine, decrypt, seal, unseal
from deepmmsearch.store import TrajectoryStore
from deepmmsearch.types import Completion, Question, Trajectory

CANARY = "a canary of our own"
QUESTION, ANSWER = "Which invented bridge is the longest of Veldoria?", "Krummhorn Bridge"


def encrypted(text: str, passphrase: str) -> str:
    """As the publishers do it, byte by byte."""
    key, data = hashlib.sha256(passphrase.encode()).digest(), text.encode()
    return base64.b64encode(bytes(byte ^ key[n % len(key)] for n, byte in enumerate(data))).decode()


def visbrowse(folder: Path, **changes: Any) -> Path:
    """A clone of its repository, with rows of our own."""
    row = {
        "id": 1,
        "question": encrypted(QUESTION, CANARY),
        "answer": [encrypted(ANSWER, CANARY), encrypted("Ünder Bridge", CANARY)],
        "image": [f"https://raw.example/main/VisBrowse_Bench_images/1_{n}.png" for n in (1, 2)],
        "domain": "Geography",
        "sub_domain": "Bridges",
        "canary": CANARY,
    }
    write_lines(folder / "data/VisBrowse-Bench.jsonl", [{**row, **changes}])
    for number in (1, 2):
        write_picture(folder / f"VisBrowse_Bench_images/1_{number}.png", number)
    return folder


def test_visbrowse(tmp_path: Path) -> None:
    asked = BENCHMARKS.find("visbrowse").open(visbrowse(tmp_path))
    (question,) = asked
    assert (question.id, question.text, question.answers) == ("visbrowse-1", QUESTION, (ANSWER, "Ünder Bridge"))
    assert len(question.images) == 2 and question.metadata["sub_domain"] == "Bridges"
    assert question.metadata["encrypted"] == "visbrowse" and CANARY not in str(question.metadata)
    # the table itself does as well
    (again,) = BENCHMARKS.find("visbrowse").open(tmp_path / "data/VisBrowse-Bench.jsonl", images=tmp_path)
    assert len(again.images) == 2


def test_mm_browsecomp(tmp_path: Path) -> None:
    row = {
        "id": 7,
        "images": ["https://raw.example/main/MMBC_images/7.png"],
        "question": encrypted(QUESTION, CANARY),
        "answer": encrypted("2", CANARY),
        "checklist": [encrypted("found the bridge", CANARY)],
        "category": "Geography",
        "subtask": "Bridges",
        "level": 1,
        "canary": CANARY,
    }
    write_lines(tmp_path / "data/MMBrowseComp.jsonl", [row, {**row, "id": 8, "images": []}, {**row, "question": "?"}])
    write_picture(tmp_path / "MMBC_images/7.png")
    asked = BENCHMARKS.find("mm-browsecomp").open(tmp_path)
    first, without = asked
    assert first.answers == ("2",) and first.metadata["checklist"] == ["found the bridge"] and first.image is not None
    assert without.id == "mm-browsecomp-8" and not without.images
    assert asked.report.dropped == {"not encrypted as it is published": 1}


def test_mmsearch_plus(tmp_path: Path) -> None:
    key = "MMSearch-Plus"
    picture = {"bytes": picture_bytes(), "path": None}
    row = {
        "question": encrypted(QUESTION, key),
        "answer": [encrypted(ANSWER, key)],
        "num_images": 2,
        "img_1": picture,
        "img_2": picture | {"bytes": picture_bytes(2)},
        "img_3": None,
        "arxiv_id": encrypted("1234.56789", key),
        "video_url": encrypted("https://video.example/1", key),
        "category": "Geography",
        "difficulty": "hard",
        "subtask": "bridges",
    }
    write_table(tmp_path / "data/train-00000-of-00001.parquet", [row, {**row, "img_2": None}])
    first, second = BENCHMARKS.find("mmsearch-plus").open(tmp_path)
    assert (first.id, first.text, first.answers) == ("mmsearch-plus-1", QUESTION, (ANSWER,))
    assert (len(first.images), len(second.images)) == (2, 1) and first.metadata["difficulty"] == "hard"
    # what else is encrypted there stays so, and is not taken along
    assert not {"arxiv_id", "video_url"} & set(first.metadata)


def test_the_key_repeats_and_only_the_right_one_opens() -> None:
    data = bytes(range(256)) * 3 + b"x"
    assert combine(combine(data, "a"), "a") == data != combine(data, "b")
    assert combine(b"", "a") == b""
    assert decrypt(encrypted("Zürich 東京", "a"), "a") == "Zürich 東京"
    for wrong in ("no base64!", encrypted("\xff" * 40, "b")):
        with pytest.raises(ValueError, match="not encrypted with this passphrase"):
            decrypt(wrong, "a")


def test_a_record_is_sealed_and_opened_and_a_forged_one_is_refused() -> None:
    record = {"question": {"text": QUESTION, "answers": [ANSWER]}, "half": "\ud83d"}
    sealed = seal(record, "visbrowse")
    assert unseal(sealed) == record and QUESTION not in json.dumps(sealed) and unseal({"a": 1}) == {"a": 1}
    for forged in ({"sealed": "visbrowse"}, {**sealed, "text": "AAAA"}, {**sealed, "sealed": "other"}):
        with pytest.raises(ValueError, match=r"cannot be opened|base64"):
            unseal(forged)


class QuotingJudge:
    """Says what it read; of one question it has nothing to say."""

    async def judge(self, question: Question, answer: str | None) -> Verdict:
        if question.text.startswith("Why"):
            raise RuntimeError(f"no verdict on {question.text}")
        return Verdict(1.0, f"{answer} is one of {question.answers}")


class OnePolicy:
    def __init__(self, text: str) -> None:
        self.text = text

    async def act(self, trajectory: Trajectory) -> Completion:
        return Completion(self.text)


def saying(text: str) -> AgentWorkflow:
    return AgentWorkflow(OnePolicy(text), load_prompt("deepmmsearch-r1"), lambda question: Toolbox())


async def played(tmp_path: Path) -> EvalRun:
    """A run over an encrypted benchmark and over a question that is not encrypted."""
    questions = list(BENCHMARKS.find("visbrowse").open(visbrowse(tmp_path / "theirs")))
    plain = Question("plain", "Who drew this open picture?", questions[0].images, ("Ada",))
    run = EvalRun(tmp_path / "run")
    run.describe([Described("direct", "direct")], [BenchmarkInfo("visbrowse"), BenchmarkInfo("own")], ["quoting"])
    said = f"<reason>{QUESTION}</reason><answer>{ANSWER}</answer>"
    for name, asked, text in (("visbrowse", questions, said), ("own", [plain], "<answer>Ada</answer>")):
        await evaluate(run, name, asked, "direct", saying(text), {"quoting": QuotingJudge()})
    return run


def everything(folder: Path) -> str:
    return "\n".join(path.read_text(errors="replace") for path in sorted(folder.rglob("*")) if path.is_file())


async def test_an_evaluation_keeps_nothing_in_the_clear_and_loses_nothing(tmp_path: Path) -> None:
    run = await played(tmp_path)
    write_reports(load_results([run]), run.folder)
    written = everything(run.folder)
    assert "Who drew this open picture?" in written
    for text in (QUESTION, ANSWER, "Veldoria", "Krummhorn"):
        assert text not in written and base64.b64encode(text.encode()).decode()[:12] not in written
    # the record is whole, and is read as any other
    stored = TrajectoryStore(run.folder / "trajectories")
    trajectory = stored.get("visbrowse/direct/visbrowse-1")
    assert (trajectory.question.text, trajectory.question.answers[0], trajectory.answer) == (QUESTION, ANSWER, ANSWER)
    assert len(trajectory.question.images) == 2 and run.judged()["visbrowse/direct/visbrowse-1", "quoting"].score == 1.0
    # whoever wants to look may
    assert not any(e.played.benchmark == "visbrowse" for e in load_results([run]).gallery)
    shown = load_results([run], encrypted=True)
    write_reports(shown, tmp_path / "private")
    assert QUESTION in (tmp_path / "private/report.html").read_text()


async def test_what_a_judge_could_not_say_is_not_quoted_either(tmp_path: Path) -> None:
    (asked,) = BENCHMARKS.find("visbrowse").open(
        visbrowse(tmp_path / "theirs", question=encrypted("Why Veldoria?", CANARY))
    )
    run = EvalRun(tmp_path / "run")
    run.describe([Described("direct", "direct")], [BenchmarkInfo("visbrowse")], ["quoting"])
    await evaluate(run, "visbrowse", [asked], "direct", saying("<answer>x</answer>"), {"quoting": QuotingJudge()})
    (judged,) = run.judged().values()
    assert judged.error == "RuntimeError, for a question that is published encrypted"


async def test_no_data_set_is_made_of_it(tmp_path: Path) -> None:
    run = await played(tmp_path)
    theirs = tmp_path / "theirs"
    for to in ("parquet", "verl", "sharegpt", "store"):
        with pytest.raises(UserError, match=r"published encrypted|Choose parquet"):
            write_as(Path("visbrowse"), tmp_path / f"out-{to}", to, chosen=Chosen(theirs))
        with pytest.raises(UserError, match="published encrypted"):
            write_as(run.folder / "trajectories", tmp_path / f"out2-{to}", to)
    for read in (read_questions, read_trajectories):
        with pytest.raises(UserError, match="published encrypted"):
            list(read(run.folder / "trajectories"))
    settings = {"output": tmp_path / "build", "seeds": {"benchmark": "visbrowse", "path": str(theirs)}}
    with pytest.raises(UserError, match="published encrypted"):
        build(BuildSettings.model_validate(settings), Makers(*[None] * 3, {}, {}))  # type: ignore[arg-type]
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and path.is_relative_to(tmp_path / "build")]
    assert all(QUESTION not in path.read_text() for path in kept)


def test_a_data_build_may_be_kept_apart_from_it(tmp_path: Path) -> None:
    from deepmmsearch.data.overlap import evaluation_prints

    prints, report = evaluation_prints(AgainstTable(benchmark="visbrowse", path=visbrowse(tmp_path)))
    assert len(prints) == 1 and QUESTION not in json.dumps(report)


def test_a_cassette_would_hold_it_in_the_clear(tmp_path: Path) -> None:
    visbrowse(tmp_path / "theirs")
    (tmp_path / "r.yaml").write_text(
        f"output: {tmp_path / 'out'}\nbenchmarks: [{{name: visbrowse, path: {tmp_path / 'theirs'}}}]\n"
        "workflows: {direct: {kind: direct}}\njudges: {llm: {kind: llm, model: m, base_url: 'http://127.0.0.1:1/v1', "
        f"recorder: {{cassette: {tmp_path / 'c.sqlite'}}}}}}}\n"
    )
    with pytest.raises(UserError, match=r"visbrowse is published encrypted.*judges.llm.recorder.mode=live"):
        play_recipe(load_recipe(tmp_path / "r.yaml", EvalRecipe))
    assert not (tmp_path / "c.sqlite").exists()


def test_it_can_be_looked_at_on_the_screen(tmp_path: Path) -> None:
    result = run("data", "show", "visbrowse", "--path", str(visbrowse(tmp_path)))
    assert "Krummhorn" in result.output and "published encrypted" in result.output
