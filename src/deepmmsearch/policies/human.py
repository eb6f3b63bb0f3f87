"""You are the policy: turns are typed at the terminal."""

from __future__ import annotations

from collections.abc import Callable

from deepmmsearch.agent.dialect import write_turn
from deepmmsearch.agent.table import installed_tools
from deepmmsearch.errors import UserError
from deepmmsearch.types import Action, Answer, Completion, ImageSearch, Trajectory

HELP = (
    'Type "image" or "image: the flag on the ship", "text: a query", "answer: the answer", or a whole turn in the '
    "protocol's tags; end a line with \\ to go on in the next."
)
REASON = "Typed by hand."


class HumanPolicy:
    """Reads turns with `read`, which is given the prompt and blocks until there is a line.

    Short forms are written out as turns; everything else is passed on as it was typed, so that malformed turns can be
    tried too. Raises UserError when the input ends.
    """

    name = "human"

    def __init__(self, read: Callable[[str], str] = input) -> None:
        self._read = read

    async def act(self, trajectory: Trajectory) -> Completion:
        lines = [self._line(f"turn {len(trajectory.turns) + 1}> ")]
        while lines[-1].endswith("\\"):
            lines[-1] = lines[-1][:-1]
            lines.append(self._line("... "))
        text = "\n".join(lines)
        action = _short_form(text)
        if action is None:
            return Completion(text)
        try:
            return Completion(write_turn(REASON, action, trajectory.prompt.dialect))
        except ValueError:
            return Completion(text)

    def _line(self, prompt: str) -> str:
        # In the loop's own thread: there is one episode, and Ctrl-C must reach who types.
        try:
            return self._read(prompt)
        except EOFError:
            raise UserError("The input ended before there was an answer. Type answer: … to end an episode.") from None


def _short_form(text: str) -> Action | None:
    word, colon, rest = text.strip().partition(":")
    word, rest = word.strip().lower(), rest.strip()
    if word == "answer" and rest:
        return Answer(rest)
    if word == "image" and not rest:
        return ImageSearch()
    tool = next((tool for tool in installed_tools() if tool.state == word), None)
    if tool is None or not (colon and rest):
        return None
    try:
        return tool.read(rest)
    except ValueError:
        return None
