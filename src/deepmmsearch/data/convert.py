"""To and from what the field uses: verl's Parquet rows and LLaMA-Factory's ShareGPT JSON.

verl: `prompt` (messages, with one `<image>` for each picture, as its RLHFDataset counts them), `images`, `reward_model`
(`ground_truth`, `candidate_answers` as JSON, `style`), `data_source` and `image_urls`, as the public MMSearch-R1 code
reads them; `extra_info` carries id, metadata and the question as it stands. Questions only.

ShareGPT: one conversation an entry, `messages` with `role` and `content`, `<image>` where a picture of `images` stands.
What the model reads and writes survives both ways, letter by letter; hits, boxes and prices do not. `metadata` is JSON
in a text: LLaMA-Factory reads the file as one table, whose rows must have the same shape. A question without a
trajectory is a conversation of one exchange, answered with its first accepted answer.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL.Image import Image

from deepmmsearch import images
from deepmmsearch.agent.dialect import find_dialect, parse_action
from deepmmsearch.agent.table import PAPER_TOOLS, Tool, installed_tools, state
from deepmmsearch.data.answers import flatten
from deepmmsearch.data.knowledge import fvqa, metadata_of, role_and_content
from deepmmsearch.data.load_report import LoadReport, Skip
from deepmmsearch.data.pictures import encode, load_picture
from deepmmsearch.data.tables import Row, pyarrow_parquet, read_json, whole_row
from deepmmsearch.errors import UserError
from deepmmsearch.files import replacing, write_json
from deepmmsearch.notation import json_text, parse_json, without_halves
from deepmmsearch.renderer import messages
from deepmmsearch.sealing import refuse_sealed
from deepmmsearch.types import (
    Completion,
    Exchange,
    Observation,
    Prompt,
    Question,
    Stop,
    Trajectory,
    Turn,
)

PLACEHOLDER = "<image>"
_MEDIA = re.compile(r"<(image|video|audio)>")
_INFORMATION = re.compile(r"<information>(.*)</information>(?:\n(.*))?\Z", re.DOTALL)


def write_verl(questions: Iterable[Question], path: Path, source: str = "mmsearch_r1/deepmmsearch") -> int:
    """Writes verl's Parquet file and gives the number of rows. `source` holds "mmsearch_r1", by which the public code
    knows which reward to use."""
    parquet = pyarrow_parquet()
    import pyarrow as pa

    text, picture = pa.string(), pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema(
        [
            ("prompt", pa.list_(pa.struct([("content", text), ("role", text)]))),
            ("images", pa.list_(picture)),
            ("reward_model", pa.struct([("candidate_answers", text), ("ground_truth", text), ("style", text)])),
            ("data_source", text),
            ("image_urls", text),
            ("extra_info", pa.struct([("index", pa.int64()), ("id", text), ("question", text), ("metadata", text)])),
        ]
    )
    count = 0
    with replacing(path) as draft, parquet.ParquetWriter(draft, schema, compression="zstd") as writer:
        for question in questions:
            row = verl_row(question, count, source)
            writer.write_table(pa.Table.from_pylist([row], schema=schema))
            count += 1
    return count


def verl_row(question: Question, index: int, source: str) -> dict[str, Any]:
    refuse_sealed(question)
    first, *others = question.answers or ("",)
    pictures = [{"bytes": encode(image), "path": None} for image in question.images]
    urls = question.metadata.get("image_urls")
    earlier = [(e.question, e.answer) for e in question.history]
    said = [text for exchange in earlier for text in exchange] + [question.text]
    said = [_harmless(without_halves(text)) for text in said]
    said[-1] = PLACEHOLDER * len(pictures) + said[-1]
    return {
        "prompt": [{"content": text, "role": ("user", "assistant")[place % 2]} for place, text in enumerate(said)],
        "images": pictures,
        "reward_model": {
            "candidate_answers": json.dumps(others, ensure_ascii=True),
            "ground_truth": without_halves(first),
            "style": "rule",
        },
        "data_source": source,
        "image_urls": None if urls is None else without_halves(str(urls)),
        "extra_info": {
            "index": index,
            "id": without_halves(question.id),
            "question": without_halves(question.text),
            "metadata": json_text(dict(question.metadata)),
        },
    }


def verl_question(row: Row, number: int) -> Question:
    """The question of a row of verl's shape, ours or anybody's. Raises Skip when it holds none."""
    draft = fvqa(row, number)
    extra = row.get("extra_info")
    extra = extra if isinstance(extra, Mapping) else {}
    metadata = _own_metadata(extra["metadata"]) if isinstance(extra.get("metadata"), str) else dict(draft.metadata)
    said = [(role, text) for role, text in map(role_and_content, row["prompt"]) if role != "system"][:-1]
    history = tuple(
        Exchange(asked, answered)
        for (first, asked), (second, answered) in zip(said[::2], said[1::2], strict=False)
        if (first, second) == ("user", "assistant")
    )
    return Question(
        str(extra.get("id") or draft.id),
        # ours as it stood; another's may mean something else by that word
        str(extra["question"]) if "metadata" in extra and extra.get("question") else draft.text,
        tuple(load_picture(p) for p in draft.picture),
        tuple(dict.fromkeys(draft.answers)),
        metadata,
        history,
    )


def _own_metadata(text: str) -> dict[str, Any]:
    try:
        found = parse_json(text)
    except ValueError as error:
        raise Skip("extra_info.metadata is not JSON", f"its extra_info.metadata is not JSON: {error}"[:160]) from None
    if not isinstance(found, dict):
        raise Skip("extra_info.metadata is not an object", "its extra_info.metadata is not a JSON object")
    return found


def write_sharegpt(played: Iterable[Trajectory | Question], path: Path) -> int:
    """Writes the conversations as JSON, their pictures to `images/` beside it, and `dataset_info.json` that tells
    LLaMA-Factory how to read them, beside what it tells of others. Gives the number of conversations.

    Raises UserError, before anything is written, where that file cannot be added to.
    """
    info = path.parent / "dataset_info.json"
    known = _described_already(info, path)
    entries = [
        _answered(each, path.parent) if isinstance(each, Question) else sharegpt_entry(each, path.parent)
        for each in played
    ]
    write_json(path, entries)
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    described = {
        "file_name": path.name,
        "formatting": "sharegpt",
        "columns": {"messages": "messages", "images": "images"},
        "tags": {**tags, "system_tag": "system"},
    }
    write_json(info, {**known, path.stem: described})
    return len(entries)


def _described_already(info: Path, path: Path) -> dict[str, Any]:
    known = read_json(info) if info.is_file() else {}
    if not isinstance(known, dict):
        raise UserError(f"{info} does not describe data sets, so nothing can be added to it. Choose another folder.")
    own = known.get(path.stem)
    if own is not None and not (isinstance(own, dict) and own.get("file_name") == path.name):
        raise UserError(f"{info} describes a data set {path.stem!r} of another file. Give {path.name} another name.")
    return known


def sharegpt_entry(trajectory: Trajectory, folder: Path) -> dict[str, Any]:
    """One conversation, up to the last turn of the model; its pictures are written to `folder`/images."""
    conversation, pictures = messages(trajectory)
    while conversation and conversation[-1]["role"] != "assistant":
        dropped = conversation.pop()
        count = sum(part["type"] == "image" for part in dropped["content"])
        pictures = pictures[: len(pictures) - count]
    written = [{"role": m["role"], "content": _content(m["content"])} for m in conversation]
    prompt = trajectory.prompt
    return _entry(trajectory.question, written, pictures, folder) | {
        "dialect": prompt.dialect,
        "prompt": prompt.name,
        "policy": trajectory.policy,
    }


def _answered(question: Question, folder: Path) -> dict[str, Any]:
    asked = PLACEHOLDER * len(question.images) + _harmless(question.text)
    said = [_harmless(text) for e in question.history for text in (e.question, e.answer)]
    said += [asked, _harmless(next(iter(question.answers), ""))]
    written = [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(said)]
    return _entry(question, written, question.images, folder)


def _entry(
    question: Question, written: list[dict[str, str]], pictures: Iterable[Image], folder: Path
) -> dict[str, Any]:
    """All entries have the same keys, with values of the same kinds: the file is read as one table."""
    refuse_sealed(question)
    return {
        "messages": written,
        "images": [os.path.relpath(images.save(picture, folder / "images"), folder) for picture in pictures],
        "id": question.id,
        "question": _harmless(question.text),
        "answers": list(question.answers),
        "metadata": json_text(dict(question.metadata)),
        "dialect": "",
        "prompt": "",
        "policy": "",
        "history": len(question.history),
    }


def _content(parts: Sequence[Mapping[str, Any]]) -> str:
    return "".join(PLACEHOLDER if part["type"] == "image" else _harmless(part["text"]) for part in parts)


def _harmless(text: str) -> str:
    """A text that holds a placeholder of LLaMA-Factory or verl would count as a picture, a film or a sound."""
    return _MEDIA.sub(r"‹\1>", text)


def is_sharegpt(path: Path) -> bool:
    """Is it a JSON file whose entries are conversations?"""
    if path.suffix.lower() not in (".json", ".jsonl") or not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        head = file.read(65536)
    return re.search(r'"(messages|conversations)"\s*:\s*\[', head) is not None


def read_sharegpt(path: Path, report: LoadReport | None = None, images: Path | None = None) -> Iterator[Trajectory]:
    """The conversations of a ShareGPT file, ours or anybody's in the dialect of DeepMMSearch-R1 or MMSearch-R1.
    Conversations that are no episodes are counted in `report` and left out. Their pictures lie beside the file or below
    it, or in the folder `images`."""
    from deepmmsearch.data.tables import read_table

    rows = read_table(path)
    report = report if report is not None else LoadReport()
    folders = (path.parent, *((images,) if images else ()))
    for number in range(len(rows)):
        report.rows += 1
        row: Row = {}
        try:
            row = whole_row(rows[number])
            trajectory = sharegpt_trajectory(row, number, *folders)
        except Exception as error:  # whatever an entry can bring about: it costs that entry, and no other
            skip = error if isinstance(error, Skip) else Skip("entry in an unknown format", str(error)[:160])
            report.drop(str(row.get("id", f"entry {number}"))[:120], skip)
            continue
        report.loaded += 1
        yield trajectory


def sharegpt_trajectory(row: Row, number: int, *folders: Path) -> Trajectory:
    """Raises Skip for a conversation that is no episode of ours: no question, turns out of order, pictures that do not
    match their placeholders."""
    conversation = [role_and_content(m) for m in (row.get("messages") or row.get("conversations") or [])]
    system = str(row.get("system") or "")
    if conversation and conversation[0][0] == "system":
        system = conversation.pop(0)[1]
    roles = [role for role, _ in conversation]
    if not conversation or roles != [("user", "assistant")[i % 2] for i in range(len(roles))] or len(roles) % 2:
        raise Skip("turns are not user, assistant, user, assistant, ...", ", ".join(roles)[:80])
    named = row.get("images") or row.get("image") or []
    named = [named] if isinstance(named, str | Mapping) else list(named)
    placeholders = sum(text.count(PLACEHOLDER) for _, text in conversation)
    if placeholders != len(named):
        raise Skip("pictures and placeholders differ", f"{len(named)} pictures, {placeholders} placeholders")
    pictures = [load_picture(name, folders) for name in named]
    dialect = str(row.get("dialect") or _dialect(conversation))
    earlier = 2 * int(row.get("history") or 0)
    history = tuple(Exchange(conversation[n][1], conversation[n + 1][1]) for n in range(0, earlier, 2))
    asked = conversation[earlier][1]
    images = tuple(pictures.pop(0) for _ in range(asked.count(PLACEHOLDER)))
    if images:
        asked = asked.replace(PLACEHOLDER, "").strip().removesuffix(find_dialect(dialect).numbering(len(images)))
    text = str(row.get("question") or asked)
    if text and text in asked:
        user = asked.replace(text, "{question}", 1)
    else:
        text, user = asked, "{question}"
    if not text.strip():
        raise Skip("no question")
    question = Question(
        str(row.get("id") or f"sharegpt-{number:06d}"),
        text,
        images,
        tuple(flatten(row.get("answers"))),
        metadata_of(row.get("metadata")),
        history,
    )
    prompt = Prompt(str(row.get("prompt") or "sharegpt"), dialect, system, user)
    prompt, turns = _turns(conversation[earlier + 1 :], prompt, pictures)
    stop: Stop | None = "answer" if turns and turns[-1].observation is None else None
    return Trajectory(question, prompt, (), turns, stop, policy=str(row.get("policy") or ""))


def _dialect(conversation: Sequence[tuple[str, str]]) -> str:
    said = "".join(text for role, text in conversation if role == "assistant")
    return "mmsearch-r1" if re.search(r"<search>\s*<img", said) else "deepmmsearch-r1"


def _turns(
    conversation: Sequence[tuple[str, str]], prompt: Prompt, pictures: list[Image]
) -> tuple[Prompt, tuple[Turn, ...]]:
    """The turns, and the prompt with the state texts found after the observations."""
    turns, tools = [], _offered(conversation, prompt)
    for place in range(0, len(conversation), 2):
        completion = Completion(conversation[place][1])
        action = parse_action(completion.text, prompt.dialect, tools=tools)
        observation = None
        if place + 1 < len(conversation):
            observation, said = _observation(conversation[place + 1][1], pictures)
            known = prompt.after.get(left := state(action), "")
            if known not in ("", said):
                raise Skip("state texts differ within the conversation", said[:80])
            prompt = replace(prompt, after={**prompt.after, left: said})
        turns.append(Turn(completion, action, observation))
    return prompt, tuple(turns)


def _offered(conversation: Sequence[tuple[str, str]], prompt: Prompt) -> tuple[Tool, ...]:
    """The papers' two, and those that the prompt or a turn names: what the policy was told depends on them."""
    said = "\n".join((prompt.system, *(text for role, text in conversation if role == "assistant")))
    named = (t for t in installed_tools() if t.name in PAPER_TOOLS or f"<{t.tag}>" in said or f'"{t.name}"' in said)
    return tuple(named)


def _observation(text: str, pictures: list[Image]) -> tuple[Observation, str]:
    seen = tuple(pictures.pop(0) for _ in range(text.count(PLACEHOLDER)))
    text = text.replace(PLACEHOLDER, "")
    found = _INFORMATION.match(text)
    body, state = (found.group(1), found.group(2) or "") if found else (text, "")
    return Observation(body, seen), state
