"""An atlas as ordinary files: websites that are indexed like any user's folder, and questions that are not.

FOLDER/sites/<site>/*.html     pages, their pictures beside them
FOLDER/questions.jsonl         id, question, image, answers, metadata; one question a line
FOLDER/images/*.jpg            the questions' scenes
FOLDER/atlas.json              how it was made
FOLDER/README.md
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterable, Iterator
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL.Image import Image
from PIL.PngImagePlugin import PngInfo

from deepmmsearch import images
from deepmmsearch.atlas.pages import Page, make_pages
from deepmmsearch.atlas.world import World
from deepmmsearch.errors import UserError
from deepmmsearch.types import Question

VERSION = 1
MARK = "atlas.json"
QUESTIONS = "questions.jsonl"
_COMMENT = "A picture of an invented world, made by deepmmsearch"

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<link rel="canonical" href="{url}">
</head>
<body>
<header><h1>{title}</h1></header>
<nav>{links}</nav>
<main>
<article>
{article}
</article>
</main>
<footer><p>{site}, one of the seven sites of an invented world. Terms of use. Contact.</p></footer>
</body>
</html>
"""

_README = """\
# An invented world: {split}, seed {seed}

{pages} pages on seven small websites (`sites/`), {questions} questions about pictures (`questions.jsonl`, `images/`).
All of it is invented and made from the seed; the same command makes the same files.

    deepmmsearch atlas make {name} --seed {seed} --split {split} --countries {countries} --famous {famous} \\
        --questions {questions}
    deepmmsearch index build {name}/sites --out {name}-index
    deepmmsearch atlas play {name} --index {name}-index --out {name}-trajectories

Some pages are stale (`old-almanac`) or gossip (`chatter`): they are wrong on purpose.
"""


def write_atlas(world: World, folder: Path, questions: Iterable[Question] = ()) -> None:
    """Writes pages, pictures and questions; `folder` appears at once and whole, or not at all.

    An atlas that is there already is replaced. Raises UserError when `folder` holds anything else.
    """
    folder = Path(folder).absolute()
    refuse_other(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.with_name(f".{folder.name}-{uuid.uuid4().hex[:8]}")
    try:
        draft.mkdir()
        pages = make_pages(world)
        _write_sites(pages, draft / "sites")
        count = _write_questions(questions, draft)
        known = {
            "version": VERSION,
            "seed": world.seed,
            "split": world.split,
            "countries": sum(not c.famous for c in world.of("country")),
            "famous": sum(c.famous for c in world.of("country")),
            "pages": len(pages),
            "questions": count,
        }
        (draft / "README.md").write_text(_README.format(name=folder.name, **known), encoding="utf-8")
        (draft / MARK).write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
        _replace(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def refuse_other(folder: Path) -> None:
    """Raises UserError unless `folder` is missing, empty or an atlas, which may be replaced."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file. Give a folder for the atlas.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).is_file():
        raise UserError(f"{folder} is not empty and not an atlas (no {MARK}). Give a new folder.")


def load_questions(folder: Path) -> list[Question]:
    """All questions with their images in memory, about 1 MB each; `read_questions` keeps one at a time."""
    return list(read_questions(folder))


def read_questions(folder: Path) -> Iterator[Question]:
    """The questions in order, each image read when its question is asked for. Raises UserError on a damaged atlas."""
    path = _questions_file(folder)
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield read_question(path.parent, line)
            except (ValueError, KeyError, TypeError, OSError) as error:
                raise UserError(f"{path}, line {number} cannot be read as a question: {error}") from None


def count_questions(folder: Path) -> int:
    """How many questions an atlas has. Raises UserError when it is none."""
    with _questions_file(folder).open(encoding="utf-8") as lines:
        return sum(1 for _ in lines)


def _questions_file(folder: Path) -> Path:
    path = Path(folder) / QUESTIONS
    if not path.is_file():
        raise UserError(
            f"{folder} is no atlas: it has no {QUESTIONS}. Make one with: deepmmsearch atlas make {folder} --seed 1"
        )
    return path


def read_question(folder: Path, line: str) -> Question:
    """The question in one line of an atlas's questions, with its picture."""
    row: dict[str, Any] = json.loads(line)
    image = None
    if row.get("image"):
        image = images.load(folder / row["image"])
    return Question(row["id"], row["question"], (image,) if image else (), tuple(row["answers"]), row["metadata"])


def render_page(page: Page, before: Page | None = None, after: Page | None = None) -> str:
    """The page as HTML; `before` and `after` are its neighbours on the site."""
    parts = [f"<p>{escape(text)}</p>" for text in page.paragraphs]
    if page.picture is not None:
        figure = f'<figure><img src="{escape(page.picture.file)}" alt="{escape(page.picture.alt)}"></figure>'
        parts.insert(-1, figure)
    links = " ".join(f'<a href="{escape(p.slug)}.html">{escape(p.title)}</a>' for p in (before, after) if p)
    return _PAGE.format(
        title=escape(page.title), url=escape(page.url), site=escape(page.site), links=links, article="\n".join(parts)
    )


def _write_sites(pages: list[Page], root: Path) -> None:
    for site in dict.fromkeys(page.site for page in pages):
        own: list[Page | None] = [None, *(page for page in pages if page.site == site), None]
        folder = root / site
        folder.mkdir(parents=True)
        for (before, page), (_, after) in pairwise(pairwise(own)):
            assert page is not None
            (folder / f"{page.slug}.html").write_text(render_page(page, before, after), encoding="utf-8")
            if page.picture is not None:
                _save(page.picture.draw(), folder / page.picture.file)


def _write_questions(questions: Iterable[Question], folder: Path) -> int:
    (folder / "images").mkdir()
    count = 0
    with (folder / QUESTIONS).open("w", encoding="utf-8") as lines:
        for question in questions:
            image = None
            if question.image is not None:
                image = f"images/{question.id}.jpg"
                _save(question.image, folder / image)
            row = {"id": question.id, "question": question.text, "image": image, "answers": list(question.answers)}
            lines.write(json.dumps({**row, "metadata": dict(question.metadata)}, ensure_ascii=False) + "\n")
            count += 1
    return count


def _save(image: Image, path: Path) -> None:
    """With a comment in the file that tells where the picture is from."""
    if path.suffix == ".png":
        comment = PngInfo()
        comment.add_text("Comment", _COMMENT)
        image.save(path, pnginfo=comment)
    else:
        image.save(path, quality=90, comment=_COMMENT)


def is_atlas_picture(path: Path) -> bool:
    """Was this file written as a picture of an atlas? Not known of copies that lost their comment."""
    try:
        with path.open("rb") as file:
            return _COMMENT.encode() in file.read(1024)
    except OSError:
        return False


def _replace(draft: Path, folder: Path) -> None:
    """A rename onto a non-empty folder fails, so the former atlas is moved aside first."""
    former = None
    if folder.exists():
        former = draft.with_name(draft.name + "-former")
        folder.rename(former)
    try:
        draft.rename(folder)
    except OSError:
        if former is not None:
            former.rename(folder)
        raise
    if former is not None:
        shutil.rmtree(former)
