"""Episodes as the page shows them: plain JSON values in which no text can turn the page around it.

Pictures are named by their number in the episode (`Trajectory.pictures`, from 1), a hit's by its turn and rank ("2-1");
boxes are shares of the picture's sides.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from PIL import Image

from deepmmsearch.agent.dialect import parse_reason, thoughts_of
from deepmmsearch.agent.table import picture_of, shown
from deepmmsearch.errors import UserError
from deepmmsearch.escaping import plain
from deepmmsearch.serve.history import HistoryEntry
from deepmmsearch.serve.refusals import UNSAVED, why_ended
from deepmmsearch.serve.room import Run
from deepmmsearch.serve.steps import CitedAnswer, cited
from deepmmsearch.show.excerpt import excerpt
from deepmmsearch.types import Call, Malformed, Observation, TextSearch, Trajectory, Turn

LONGEST_TEXT = 20_000
SIDES = {"picture": 1280, "hit": 144}


def view_question(trajectory: Trajectory, entry: HistoryEntry) -> dict[str, Any]:
    """A question with all that became of it. `end` is None while it is in play."""
    head = {
        "id": entry.id,
        "conversation": entry.conversation,
        "date": entry.date,
        "model": entry.model,
        "question": entry.question,
        "sizes": [image.size for image in trajectory.question.images],
    }
    turns = [view_turn(trajectory, number) for number in range(1, len(trajectory.turns) + 1)]
    return harmless({**head, "turns": turns, "end": None if trajectory.stop is None else view_end(trajectory)})


def view_run(run: Run) -> dict[str, Any]:
    """A question that has just been asked, in the same form."""
    about = {name: run.about.get(name, "") for name in ("conversation", "date", "model")}
    sizes = [image.size for image in run.question.images]
    return harmless({"id": run.id, **about, "question": run.question.text, "sizes": sizes, "turns": [], "end": None})


def view_turn(trajectory: Trajectory, number: int) -> dict[str, Any]:
    """A turn, counted from 1: what was thought, said, done, found and read; what failed; time and money."""
    turn = trajectory.turns[number - 1]
    action, written, seen = shown(turn.action), turn.completion.text, turn.observation
    row: dict[str, Any] = {
        "number": number,
        "thoughts": thoughts_of(turn.completion),
        "reason": parse_reason(written, trajectory.prompt.dialect),
        "action": action.name,
        "detail": action.detail,
        "problem": turn.action.problem if isinstance(turn.action, Malformed) else None,
        "written": written if isinstance(turn.action, Malformed) else None,
        "finish": turn.completion.finish,
        "seconds": round(turn.seconds, 2),
        "cost": turn.cost,
    }
    return harmless(row if seen is None else row | _seen(trajectory, turn, seen, number))


def view_end(trajectory: Trajectory, unsaved: str | None = None) -> dict[str, Any]:
    """What came of it. `parts`: the answer as texts and numbers of `sources`; `unfounded`: it was searched, and nothing
    was found; `why`: the page's sentence for `error`; `unsaved`: why the answer could not be kept."""
    answer = cited(trajectory)
    hits = any(turn.observation and turn.observation.hits for turn in trajectory.turns)
    row = {
        "stop": trajectory.stop,
        "error": trajectory.error,
        "why": why_ended(trajectory.error),
        "parts": list(_parts(answer)) if trajectory.answer is not None else None,
        "sources": [asdict(source) for source in answer.sources],
        "read": [asdict(source) for source in answer.read],
        "searches": len(trajectory.searches),
        "unfounded": bool(trajectory.searches) and not hits,
        "seconds": round(trajectory.seconds, 2),
        "cost": trajectory.cost,
        "tokens": trajectory.sampled_tokens,
        "unsaved": None if unsaved is None else unsaved.removeprefix(UNSAVED),
    }
    return harmless(row)


def view_entry(entries: list[HistoryEntry]) -> dict[str, Any]:
    """A conversation (oldest question first) as a line of the history."""
    first, last = entries[0], entries[-1]
    row = {"id": first.conversation, "title": first.title, "date": last.date, "questions": len(entries)}
    return harmless(row | {"playing": last.stop is None, "failed": last.stop is not None and last.answer is None})


def find_picture(trajectory: Trajectory, name: str) -> bytes:
    """The picture of that name as JPEG, drawn anew. Raises UserError where there is none."""
    first, hyphen, second = name.partition("-")
    try:
        if hyphen:
            seen = trajectory.turns[int(first) - 1].observation
            found = seen.hits[int(second) - 1].image if seen is not None and int(second) > 0 else None
        else:
            found = trajectory.pictures[int(first) - 1] if int(first) > 0 else None
    except (ValueError, IndexError):
        found = None
    if found is None:
        raise UserError(f"There is no picture {name[:20]!r} in this episode.")
    return drawn(found, SIDES["hit" if hyphen else "picture"])


def drawn(image: Image.Image, side: int) -> bytes:
    """A JPEG of at most that many pixels a side, of the pixels alone."""
    small = image.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def harmless(value: Any) -> Any:
    """The same with every text as `plain` leaves it."""
    match value:
        case str():
            return plain(value[:LONGEST_TEXT])
        case dict():
            return {name: harmless(each) for name, each in value.items()}
        case list() | tuple():
            return [harmless(each) for each in value]
    return value


def _seen(trajectory: Trajectory, turn: Turn, seen: Observation, number: int) -> dict[str, Any]:
    before = Trajectory(trajectory.question, trajectory.prompt, trajectory.context, trajectory.turns[: number - 1])
    count = len(before.pictures)
    read = {rank for sentence in seen.sentences for rank in sentence.hits}
    query = turn.action.query if isinstance(turn.action, TextSearch) else ""
    return {
        "text": seen.text,
        "error": seen.error,
        "summary_error": seen.summary_error,
        "grounding": _grounding(before, turn, seen),
        "crop": count + 1 if seen.crop is not None else None,
        # pictures that came back are those of hits, except where there are no hits
        "pictures": [] if seen.hits else [count + (seen.crop is not None) + n for n in range(1, len(seen.images) + 1)],
        "hits": [
            {
                "title": hit.title,
                "url": hit.url,
                # every second part is a word that was searched for
                "excerpt": excerpt(query, hit.snippet),
                "matched": hit.matched,
                "picture": f"{number}-{rank}" if hit.image is not None else None,
                "read": rank in read,
            }
            for rank, hit in enumerate(seen.hits, 1)
        ],
        "calls": [_call(call) for call in seen.calls],
    }


def _grounding(before: Trajectory, turn: Turn, seen: Observation) -> dict[str, Any] | None:
    found = seen.grounding
    if found is None:
        return None
    number = picture_of(turn.action)
    row: dict[str, Any] = {"phrase": found.phrase, "picture": number, "fallback": found.fallback, "box": None}
    if (box := found.box) is not None and 0 < number <= len(before.pictures):
        width, height = before.pictures[number - 1].size
        row["box"] = [box.left / width, box.top / height, box.right / width, box.bottom / height]
        row["score"] = round(box.score, 3)
    return row


def _call(call: Call) -> dict[str, Any]:
    row = {"tool": call.tool, "provider": call.provider, "seconds": round(call.seconds, 2), "cost": call.cost}
    return row | {"cached": call.cached, "error": call.error}


def _parts(answer: CitedAnswer) -> Iterator[str | int]:
    at = 0
    for number, start, end in answer.spans:
        yield answer.text[at:start]
        yield number
        at = end
    yield answer.text[at:]
