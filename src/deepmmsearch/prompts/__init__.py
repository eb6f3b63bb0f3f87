"""The texts a policy reads, as plain files: one folder per set, and the prompts of tools that ask a model.

A set holds `system.md` and `user.md` (with `{question}`), and, where it has them, the state texts that follow an
observation: `after_image.md`, `after_text.md`, `after_malformed.md`, and one named so for any other tool. In folders
named by ISO 639-1 codes (`de`, `zh`) the same set stands in other languages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal

from deepmmsearch.agent.dialect import DEFAULT, DIALECTS, find_dialect
from deepmmsearch.errors import UnknownName, UserError
from deepmmsearch.types import Prompt

JUDGE_PROMPTS = ("evaluation", "reward", "mm-vet")
OFFICIAL_PROMPTS = ("extract", "match")
_AFTER = "after_"


def prompt_names() -> tuple[str, ...]:
    """The sets that come with the package."""
    return tuple(sorted(f.name for f in files(__name__).iterdir() if f.is_dir() and f.joinpath("system.md").is_file()))


def load_prompt(name: str, dialect: str | None = None, language: str | None = None) -> Prompt:
    """The set of that name, or one in a folder of your own (`name` is then its path); in one of its `prompt_languages`,
    or else in the one that it is written in.

    `dialect` defaults to the one the set is named after, else to the paper's. Raises UserError for an unknown set, a
    missing file, or a user text without `{question}`.
    """
    folder = _folder(name)
    if not folder.is_dir():
        raise UnknownName("prompt set", name, prompt_names())
    label = folder.name
    folder = folder if language is None else folder.joinpath(language)
    dialect = dialect or (label if label in DIALECTS.names() else DEFAULT)
    find_dialect(dialect)
    user = _read(folder, "user.md")
    if "{question}" not in user:
        raise UserError(f"The prompt file {name}/user.md has no {{question}} in it. Say where the question belongs.")
    files_of_states = [f.name for f in folder.iterdir() if f.name.startswith(_AFTER) and f.name.endswith(".md")]
    after = {name[len(_AFTER) : -len(".md")]: _read(folder, name) for name in sorted(files_of_states)}
    return Prompt(label, dialect, _read(folder, "system.md"), user, after)


def prompt_languages(name: str) -> tuple[str, ...]:
    """The languages in which a set stands beside its own."""
    folder = _folder(name)
    inner = folder.iterdir() if folder.is_dir() else ()
    return tuple(
        sorted(f.name for f in inner if re.fullmatch("[a-z]{2}", f.name) and f.joinpath("system.md").is_file())
    )


def _folder(name: str) -> Traversable:
    return files(__name__).joinpath(name) if name in prompt_names() else Path(name)


def grounding_prompt(phrase: str) -> str:
    """The user's text that asks a model for the box of what `phrase` names; the image stands before it."""
    return _read(files(__name__), "grounding.md").replace("{phrase}", " ".join(phrase.split()))


def transcript_prompt() -> str:
    """Asks a model what is written in a picture."""
    return _read(files(__name__), "read-text.md")


def judge_prompt(rules: str) -> str:
    """The text that asks a model whether a candidate is right, with `{question}`, `{references}` and `{candidate}`."""
    return _read(files(__name__), f"judge-{rules}.md")


def official_prompt(name: str, fields: Mapping[str, str] | None = None) -> str:
    """One of OFFICIAL_PROMPTS, with which a benchmark's own scoring asks a model; `fields`: question or options,
    and candidate; None leaves them open."""
    text = _read(files(__name__), f"official-{name}.md")
    # one pass, so that a field's own braces are not filled in turn
    return text if fields is None else re.sub(r"\{(\w+)\}", lambda m: fields[m[1]], text)


def summary_prompt(kind: Literal["text", "image", "page"], fields: Mapping[str, str]) -> str:
    """The text that asks a model for a summary; `fields`: question, query, count, fence, passages."""
    text = _read(files(__name__), f"summarize-{kind}.md")
    # one pass, so that a field's own braces are not filled in turn
    return re.sub(r"\{(\w+)\}", lambda m: fields[m.group(1)], text)


def _read(folder: Traversable, name: str) -> str:
    try:
        return folder.joinpath(name).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise UserError(f"The prompt set {folder.name!r} has no file {name}. Add it.") from None
