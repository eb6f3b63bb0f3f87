"""Trajectories on a terminal. What a model, page or hit wrote is printed as plain text: no markup, no escape codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.text import Text

from deepmmsearch.agent.dialect import parse_reason, thoughts_of
from deepmmsearch.agent.lines import cut
from deepmmsearch.agent.metering import tally
from deepmmsearch.agent.table import shown
from deepmmsearch.console import Console
from deepmmsearch.escaping import one_line, plain, readable_address
from deepmmsearch.show.citations import find_sources, read_sources
from deepmmsearch.types import (
    Answer,
    Grounding,
    Hit,
    Malformed,
    Observation,
    TokenSequence,
    Trajectory,
    Turn,
)

MOST_READ = 5
MOST_THOUGHTS = 160
ENDS = {
    "length": "The turn was cut off: it reached its token limit.",
    "context": "The model's window is full.",
    "filter": "The endpoint's content filter withheld the turn.",
    "refusal": "The model refused.",
    "cut": "The turn was broken off.",
}


def show_turn(console: Console, trajectory: Trajectory, crop_path: Path | None = None) -> None:
    """The latest turn: reason, action, crop, hits, observation."""
    turn = trajectory.turns[-1]
    reason = parse_reason(turn.completion.text, trajectory.prompt.dialect)
    console.print(Text(f"\nTurn {len(trajectory.turns)}", "bold"), Text(f"{turn.seconds:.1f} s", "dim"))
    if thoughts := one_line(thoughts_of(turn.completion)):
        _line(console, f"thought, {len(thoughts.split())} words: {cut(thoughts, MOST_THOUGHTS)}", "dim")
    if reason:
        _line(console, reason, "italic")
    _line(console, shown(turn.action).line, "bold cyan" if not isinstance(turn.action, Malformed) else "bold red")
    if isinstance(turn.action, Malformed) and turn.completion.text.strip():
        _line(console, turn.completion.text.strip()[:1000], "dim")
    if ended := ENDS.get(turn.completion.finish):
        _line(console, f"{ended} {turn.completion.remark}".strip(), "yellow")
    if turn.observation is not None:
        _observation(console, turn.observation, crop_path)


def show_end(console: Console, trajectory: Trajectory) -> None:
    """The answer with numbered sources, or why there is none; and what it took."""
    console.print()
    if trajectory.answer is None:
        _line(console, f"No answer: {why_none(trajectory)}", "bold red", indent="")
    else:
        _answer(console, trajectory, trajectory.answer)
    if trajectory.calls:
        _line(console, spent(trajectory), "dim", indent="")


def spent(trajectory: Trajectory) -> str:
    """Calls, seconds and money in one line."""
    total = tally(trajectory.calls)
    parts = [f"{total.cached} from the cassette"] if total.cached else []
    parts += [f"{total.failed} failed"] if total.failed else []
    calls = f"{total.calls} tool call{'' if total.calls == 1 else 's'}"
    of_these = f" ({', '.join(parts)})" if parts else ""
    return f"{calls}{of_these}, {trajectory.seconds:.1f} s, {dollars(trajectory.cost)}"


def dollars(amount: float) -> str:
    """Prices of single calls are fractions of a cent."""
    if 0 < amount < 0.0001:
        return "<$0.0001"
    return f"${amount:.4f}".rstrip("0").rstrip(".") if 0 < amount < 1 else f"${amount:.2f}".replace("$0.00", "$0")


def _answer(console: Console, trajectory: Trajectory, answer: str) -> None:
    console.print(Text("Answer: ", "bold"), Text(plain(answer), "bold green"), sep="")
    if trajectory.turns and trajectory.turns[-1].action == Answer(answer, formed=False):
        _line(console, "The model does not keep the form of a turn; this is what it wrote.", "yellow")
    sources, read = find_sources(trajectory), read_sources(trajectory)
    if not sources and read:
        _line(console, "No source has the answer word for word. What was read:", "dim")
    for number, source in enumerate(sources or read[:MOST_READ], 1):
        # One line without wrapping, so that terminals can make a link of the address.
        line = Text(f"  [{number}] {one_line(source.title)}")
        line.append(" (only looks alike)" if source.matched is False else "", "yellow")
        console.print(line.append(f"  {one_line(readable_address(source.url))}", "blue"), soft_wrap=True)
        if source.sentence and one_line(source.sentence) != one_line(source.title):
            console.print(Text(f"      {one_line(source.sentence)}", "dim"), soft_wrap=True)


def show_trajectory(
    console: Console, trajectory: Trajectory, crop_folder: Path | None = None, *, told: bool = False
) -> None:
    """The whole episode. `told`: its id and model stand above it already, as the store has them."""
    question = trajectory.question
    console.print(Text(plain(question.text), "bold"))
    sizes = ", ".join(f"{image.width} x {image.height}" for image in question.images)
    size = f"picture{'s' if len(question.images) > 1 else ''} {sizes}" if sizes else "no picture"
    known = f"accepted answers: {' / '.join(question.answers)}" if question.answers else ""
    named = ("", "") if told else (question.id, trajectory.policy)
    facts = (named[0], size, f"prompt {trajectory.prompt.name}", named[1], known)
    console.print(Text(one_line(" | ".join(f for f in facts if f)), "dim"))
    for count in range(1, len(trajectory.turns) + 1):
        turn = trajectory.turns[count - 1]
        show_turn(console, _first(trajectory, count), crop_path(turn, crop_folder))
    show_end(console, trajectory)


def show_tokens(console: Console, sequence: TokenSequence, pieces: Sequence[str], image_id: int | None) -> None:
    """Every token, those that the loss counts in green; a picture stands as its size."""
    text, picture = Text(), iter(sequence.images)
    for number, kept, piece in zip(sequence.ids, sequence.mask, pieces, strict=True):
        if number == image_id:
            image = next(picture)
            text.append(f"[picture {image.width} x {image.height}]", "magenta")
            continue
        shown = plain(piece).replace("\n", "⏎\n")
        text.append(shown, "bold green" if kept else "dim")
    console.print(text, soft_wrap=True)
    counted = sum(sequence.mask)
    console.print(f"\n{len(sequence.ids)} tokens, {counted} of them count (green); pictures: {len(sequence.images)}")


def as_json(trajectory: Trajectory, crops: Path | None = None) -> dict[str, Any]:
    """What a program wants to know of an answered question, as plain JSON values."""
    return {
        "question": trajectory.question.text,
        "answer": trajectory.answer,
        "stop": trajectory.stop,
        "error": trajectory.error,
        "sources": [asdict(source) for source in find_sources(trajectory)],
        "turns": [_turn_json(turn, trajectory.prompt.dialect, crop_path(turn, crops)) for turn in trajectory.turns],
        "seconds": round(trajectory.seconds, 3),
        "spent": _spent_json(trajectory),
    }


def _spent_json(trajectory: Trajectory) -> dict[str, Any]:
    total = tally(trajectory.calls)
    row: dict[str, Any] = {"calls": total.calls, "cached": total.cached, "failed": total.failed, "bytes": total.bytes}
    row |= {"prompt_tokens": trajectory.prompt_tokens, "sampled_tokens": trajectory.sampled_tokens}
    return row | {"tool_seconds": round(total.seconds, 3), "cost": round(trajectory.cost, 6)}


def crop_path(turn: Turn, folder: Path | None) -> Path | None:
    """Where a store in `folder` keeps the turn's crop."""
    from deepmmsearch.images import digest

    crop = turn.observation.crop if turn.observation else None
    return folder / "images" / f"{digest(crop)}.png" if crop is not None and folder is not None else None


def _turn_json(turn: Turn, dialect: str, crop: Path | None) -> dict[str, Any]:
    text = turn.completion.text
    row: dict[str, Any] = {"text": text, "reason": parse_reason(text, dialect), **shown(turn.action).fields}
    row |= {"thoughts": thoughts_of(turn.completion), "remark": turn.completion.remark}
    row |= {"finish": turn.completion.finish, "seconds": round(turn.seconds, 3)}
    if (seen := turn.observation) is not None:
        row |= {"observation": seen.text, "error": seen.error, "hits": [hit_json(h) for h in seen.hits]}
        row |= {"sentences": [asdict(s) for s in seen.sentences], "summary_error": seen.summary_error}
        if seen.grounding is not None:
            box = seen.grounding.box
            row["box"] = [box.left, box.top, box.right, box.bottom, box.score] if box else None
            row["fallback"] = seen.grounding.fallback
            row["outcome"] = seen.grounding.outcome
        row["crop"] = str(crop) if crop else None
    return row


def hit_json(hit: Hit) -> dict[str, Any]:
    return {
        "title": hit.title,
        "url": hit.url,
        "score": hit.score,
        "matched": hit.matched,
        "matched_by": hit.matched_by,
    }


def _observation(console: Console, seen: Observation, crop_path: Path | None) -> None:
    if seen.grounding is not None:
        _line(console, _grounded(seen.grounding), "magenta")
    if seen.crop is not None:
        where = f", saved as {crop_path}" if crop_path else ""
        crop = Text(f"  crop {seen.crop.width} x {seen.crop.height}{where}", "magenta")
        console.print(crop, soft_wrap=True)
    for rank, hit in enumerate(seen.hits, 1):
        mark = {True: " match", False: " similar", None: ""}[hit.matched]
        mark += " by rank" if hit.matched and hit.matched_by == "rank" else ""
        line = Text(f"  {rank}. {one_line(hit.title) or 'untitled'}", "dim")
        console.print(
            line.append(f"{mark} {hit.score:.3g}  ").append(one_line(readable_address(hit.url)), "blue"), soft_wrap=True
        )
    if seen.summary_error:
        _line(console, f"The summariser failed: {seen.summary_error}", "yellow")
    _line(console, seen.text, "red" if seen.error else "")


def _grounded(grounding: Grounding) -> str:
    named = f'"{grounding.phrase}": ' if grounding.phrase else ""
    if grounding.box is None:
        return f"{named}{grounding.fallback or 'no box'}, the whole picture is searched"
    b = grounding.box
    tail = f" ({grounding.fallback})" if grounding.fallback else ""
    box = f"box {b.left:.0f}, {b.top:.0f}, {b.right:.0f}, {b.bottom:.0f}"
    label = f' for "{b.label}"' if b.label else ""
    several = ", one of several equally good ones" if grounding.outcome == "several" else ""
    return f"{named}{box}, score {b.score:.2f}{label}{several}{tail}"


def why_none(trajectory: Trajectory) -> str:
    reasons = {
        "turns": "the policy used all its turns.",
        "length": "a turn, or the whole episode, reached its token limit.",
        "context": "the model's window is full.",
        "filter": "the endpoint's content filter withheld the turn.",
        "refusal": f"the model refused: {_refusal(trajectory)}",
        "cut": "the turn was broken off.",
        None: "the episode was not finished.",
    }
    return trajectory.error or reasons.get(trajectory.stop, f"it stopped with {trajectory.stop}.")


def _refusal(trajectory: Trajectory) -> str:
    return " ".join(trajectory.turns[-1].completion.text.split())[:300] if trajectory.turns else ""


def _first(trajectory: Trajectory, count: int) -> Trajectory:
    from dataclasses import replace

    return replace(trajectory, turns=trajectory.turns[:count])


def _line(console: Console, text: str, style: str, indent: str = "  ") -> None:
    console.print(Text("\n".join(indent + line for line in plain(text).splitlines()), style))
