"""Trajectories as one HTML page that can be mailed: pictures inside as data URLs, no script, nothing from outside.

Everything that a policy, a page or a hit wrote is untrusted and escaped; a content security policy forbids the rest.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from PIL import Image

from deepmmsearch.agent.dialect import parse_reason
from deepmmsearch.agent.table import shown
from deepmmsearch.files import write_text
from deepmmsearch.judge import is_correct
from deepmmsearch.show.table import Table
from deepmmsearch.types import Box, Hit, ImageSearch, Malformed, Observation, Trajectory, Turn

SCENE_WIDTH, CROP_WIDTH, HIT_WIDTH = 420, 160, 72


@dataclass(frozen=True)
class Report:
    """`answers`: what other players answered, name -> question id -> answer; shown beside the trajectory's own."""

    title: str
    lead: str
    tables: Sequence[Table] = ()
    trajectories: Sequence[Trajectory] = ()
    answers: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    opened: int = 3


def write_report(report: Report, path: Path) -> None:
    """Writes the page; `path` appears whole or not at all."""
    # A model may write half a surrogate pair, which has no UTF-8.
    write_text(path, render(report), errors="replace")


def render(report: Report) -> str:
    """The page as HTML; trajectories in their order, the first `opened` unfolded."""
    tables = "".join(table_html(t) for t in report.tables)
    cards = "".join(card(t, report.answers, number < report.opened) for number, t in enumerate(report.trajectories))
    return page(report.title, report.lead, f"{tables}<section>{cards}</section>")


def page(title: str, lead: str, body: str, style: str = "") -> str:
    """The frame of a page that loads nothing; `body` and `style` must be safe already."""
    return _PAGE.format(style=_STYLE + style, title=escape(title), lead=escape(lead), body=body)


def table_html(table: Table) -> str:
    head = "".join(f"<th>{escape(c)}</th>" for c in table.columns)
    rows = "".join(f"<tr{' class=all' if row[:1] == ['all'] else ''}>{_row(row)}</tr>" for row in map(list, table.rows))
    note = f"<p class=note>{escape(table.note)}</p>" if table.note else ""
    return f"<div class=table><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{note}"


def _row(cells: Sequence[str]) -> str:
    return f"<th>{escape(cells[0])}</th>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells[1:])


def card(
    trajectory: Trajectory,
    answers: Mapping[str, Mapping[str, str | None]],
    opened: bool,
    *,
    right: bool | None = None,
    verdict: str = "",
    label: str | None = None,
    classes: str = "",
) -> str:
    """One episode, folded unless `opened`. `right`: a judge's verdict instead of exact match, `verdict` its words;
    `label` stands in the head instead of the question's kind; `classes` (safe already) are for filters."""
    question = trajectory.question
    kind = str(question.metadata.get("kind", "")) if label is None else label
    mark = _mark(trajectory.answer, question.answers) if right is None else _named_mark(right)
    searches = len(trajectory.context) or len(trajectory.searches)
    facts = [f"{searches} search{'' if searches == 1 else 'es'}", f"{sum(t.seconds for t in trajectory.turns):.1f} s"]
    picture = _scene(trajectory) if question.image is not None else ""
    queries = ("the whole image", str(question.metadata.get("rag_query", "")))
    turns = "".join(_beforehand(found, asked) for found, asked in zip(trajectory.context, queries, strict=False))
    turns += "".join(_turn(turn, trajectory.prompt.dialect) for turn in trajectory.turns)
    said = f"<p class=note>Judge: {_text(verdict)}</p>" if verdict else ""
    stop = "" if trajectory.stop == "answer" else _stopped(trajectory)
    return (
        f"<details class='card {classes}'{' open' if opened else ''}><summary>{mark}"
        f"<span class=question>{_text(question.text)}</span>"
        f"<span class=kind>{_text(kind.replace('_', ' '))}</span></summary>"
        f"<div class=body><aside>{picture}{_verdict(trajectory, answers, right)}{said}"
        f"<p class=note>{' · '.join(facts)}</p></aside>"
        f"<ol class=turns>{turns}{stop}</ol></div></details>"
    )


def _mark(answer: str | None, accepted: Sequence[str]) -> str:
    if not accepted:
        return "<b class=mark>·</b>"
    return _named_mark(is_correct(answer, accepted))


def _named_mark(right: bool) -> str:
    return f"<b class='mark {'right' if right else 'wrong'}'>{'right' if right else 'wrong'}</b>"


def _verdict(trajectory: Trajectory, answers: Mapping[str, Mapping[str, str | None]], right: bool | None = None) -> str:
    question = trajectory.question
    own = _mark(trajectory.answer, question.answers) if right is None else _named_mark(right)
    first = f"<dt>answer</dt><dd>{own} {_text(trajectory.answer or 'none')}</dd>"
    rows = [(name, given[question.id]) for name, given in answers.items() if question.id in given]
    lines = "".join(
        f"<dt>{escape(name)}</dt><dd>{_mark(answer, question.answers)} {_text(answer or 'none')}</dd>"
        for name, answer in rows
    )
    accepted = f"<dt>accepted</dt><dd>{_text(' / '.join(question.answers))}</dd>" if question.answers else ""
    return f"<dl>{first}{lines}{accepted}</dl>"


def _stopped(trajectory: Trajectory) -> str:
    why = trajectory.error or {
        "turns": "All calls were used.",
        "length": "The turn or the episode grew too long.",
        "context": "The model's window was full.",
    }.get(trajectory.stop or "", "It did not end.")
    return f"<li class=failed><p>No answer: {_text(why)}</p></li>"


def _scene(trajectory: Trajectory) -> str:
    """The question's picture with the boxes that were cropped drawn over it."""
    image = trajectory.question.image
    assert image is not None
    boxes = [
        t.observation.grounding.box
        for t in trajectory.turns
        if t.observation and t.observation.grounding and t.observation.grounding.box
        if isinstance(t.action, ImageSearch) and t.action.picture == 1
    ]
    frames = "".join(_frame(box, image.size) for box in boxes)
    return f"<div class=scene>{_picture(image, SCENE_WIDTH, 'the picture of the question')}{frames}</div>"


def _frame(box: Box, size: tuple[int, int]) -> str:
    left, top = 100 * box.left / size[0], 100 * box.top / size[1]
    width, height = 100 * (box.right - box.left) / size[0], 100 * (box.bottom - box.top) / size[1]
    return f"<i style='left:{left:.2f}%;top:{top:.2f}%;width:{width:.2f}%;height:{height:.2f}%'></i>"


def _beforehand(found: Observation, asked: str) -> str:
    """What a workflow looked up before the first turn."""
    return f"<li>{_action('looked up beforehand', asked)}{_observation(found)}</li>"


def _turn(turn: Turn, dialect: str) -> str:
    reason = parse_reason(turn.completion.text, dialect)
    said = f"<p class=reason>{_text(reason)}</p>" if reason else ""
    told = shown(turn.action)
    action = _action(told.name, told.detail)
    if isinstance(turn.action, Malformed):
        action += f"<pre>{_text(turn.completion.text)}</pre>"
    found = _observation(turn.observation) if turn.observation else ""
    return f"<li>{said}{action}{found}</li>"


def _action(name: str, text: str) -> str:
    return f"<p class=action><b>{name}</b> {_text(text)}</p>"


def _observation(observation: Observation) -> str:
    parts = []
    if observation.crop is not None:
        parts.append(f"<div class=crop>{_picture(observation.crop, CROP_WIDTH, 'the crop that was searched')}</div>")
    if observation.grounding and observation.grounding.fallback:
        parts.append(f"<p class=note>Searched with the whole image: {_text(observation.grounding.fallback)}.</p>")
    parts.append(f"<pre class='{'error' if observation.error else 'read'}'>{_text(observation.text)}</pre>")
    if observation.hits:
        cited = {rank for sentence in observation.sentences for rank in sentence.hits}
        hits = "".join(_hit(hit, rank, rank in cited) for rank, hit in enumerate(observation.hits, 1))
        parts.append(f"<details class=hits><summary>{len(observation.hits)} hits</summary><ol>{hits}</ol></details>")
    return "".join(parts)


def _hit(hit: Hit, rank: int, cited: bool) -> str:
    picture = _picture(hit.image, HIT_WIDTH, "") if hit.image is not None else ""
    matched = {True: " · match", False: " · no match", None: ""}[hit.matched]
    return (
        f"<li>{picture}<div><b>[{rank}] {_text(hit.title or 'untitled')}</b><span class=note>{_text(hit.url)}</span>"
        f"<span class=note>score {hit.score:.2f}{matched}{' · cited' if cited else ''}</span>"
        f"<p>{_text(_short(hit.snippet))}</p></div></li>"
    )


def _short(text: str, longest: int = 400) -> str:
    return text if len(text) <= longest else text[:longest].rstrip() + "…"


def _text(text: str) -> str:
    # bdi: a right-to-left mark in a page must not turn the rest of ours around.
    return f"<bdi>{escape(text)}</bdi>"


def _picture(image: Image.Image, width: int, alt: str) -> str:
    # A longish picture is bounded in height too.
    bounds = (width, width)
    small = image.convert("RGB")
    small.thumbnail(bounds, Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=82)
    address = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f"<img src='data:image/jpeg;base64,{address}' width={small.width} height={small.height} alt='{escape(alt)}'>"


def answers_by_question(trajectories: Iterable[Trajectory]) -> dict[str, str | None]:
    return {t.question.id: t.answer for t in trajectories}


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header><h1>{title}</h1><p>{lead}</p></header>
<main>
{body}
</main>
</body>
</html>
"""

_STYLE = """
:root { --ink: #1d2430; --soft: #5d6778; --line: #dde2ea; --paper: #fff; --ground: #f5f6f9; --accent: #2b59c3;
  --right: #1b7f4b; --wrong: #b3322e; --read: #eef3fb; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ef; --soft: #9aa5b8; --line: #2c3442; --paper: #171c25;
  --ground: #10141b; --accent: #86a8ff; --right: #4fc58a; --wrong: #f0837f; --read: #1d2635; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
header, main { max-width: 1060px; margin: 0 auto; padding: 0 20px; }
header { padding-top: 40px; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 8px; }
header p { color: var(--soft); max-width: 70ch; margin: 0 0 24px; }
.table { overflow-x: auto; background: var(--paper); border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 7px 14px; text-align: right; border-bottom: 1px solid var(--line); font-weight: normal; }
th:first-child { text-align: left; }
thead th { color: var(--soft); font-size: .85rem; }
tbody tr:last-child > * { border-bottom: 0; }
tbody tr.all > * { font-weight: 650; }
section { margin: 28px 0 60px; }
section > details { background: var(--paper); border: 1px solid var(--line); border-radius: 8px; margin: 10px 0; }
summary { cursor: pointer; }
section > details > summary { display: flex; gap: 12px; align-items: baseline; padding: 12px 16px; list-style: none; }
section > details > summary::-webkit-details-marker { display: none; }
.question { font-weight: 600; flex: 1; }
.kind, .note { color: var(--soft); font-size: .85rem; }
.mark { font-size: .75rem; padding: 1px 8px; border-radius: 9px; border: 1px solid; }
.mark.right { color: var(--right); } .mark.wrong { color: var(--wrong); }
.body { display: flex; flex-wrap: wrap; gap: 28px; padding: 4px 16px 18px; }
aside { flex: 0 1 420px; }
.turns { flex: 1 1 380px; min-width: 0; margin: 0; padding-left: 22px; }
.turns > li { margin-bottom: 16px; }
.turns > li::marker { color: var(--soft); }
.scene { position: relative; width: fit-content; line-height: 0; }
.scene img { max-width: 100%; height: auto; border-radius: 6px; }
.scene i { position: absolute; border: 3px solid #ff2d78; border-radius: 3px; box-shadow: 0 0 0 1px #fff; }
.crop img { border: 3px solid #ff2d78; border-radius: 4px; display: block; margin: 6px 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 14px; margin: 14px 0 8px; font-size: .92rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
p { margin: 0 0 4px; } .reason { font-style: italic; color: var(--soft); }
.action b { color: var(--accent); font-weight: 600; margin-right: 6px; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font: .86rem/1.5 ui-monospace, monospace; background: var(--read);
  border-radius: 6px; padding: 8px 12px; margin: 6px 0; }
pre.error, .failed { color: var(--wrong); }
.hits > summary { color: var(--soft); font-size: .85rem; }
.hits ol { list-style: none; padding: 6px 0 0; margin: 0; }
.hits li { display: flex; gap: 12px; margin-bottom: 10px; font-size: .88rem; align-items: flex-start; }
.hits li div { min-width: 0; overflow-wrap: anywhere; } .hits .note { display: block; }
"""
