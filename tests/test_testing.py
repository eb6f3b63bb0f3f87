from __future__ import annotations

import pytest

from deepmmsearch.errors import UserError
from deepmmsearch.prompts import load_prompt
from deepmmsearch.testing import HOSTILE_TEXTS, ScriptedPolicy, tiny_tokenizer
from deepmmsearch.types import Completion, Question, Trajectory


async def test_a_script_may_hold_texts_and_completions() -> None:
    start = Trajectory(Question("q", "?"), load_prompt("direct"))
    cut = Completion("b", (1,), None, "length")
    policy = ScriptedPolicy("a", cut)
    assert await policy.act(start) == Completion("a")
    assert await ScriptedPolicy(cut).act(start) is cut
    with pytest.raises(UserError, match="has 0 turns, but turn 1"):
        await ScriptedPolicy().act(start)


def test_the_tiny_tokenizer_keeps_every_text() -> None:
    pytest.importorskip("transformers")
    tokenizer = tiny_tokenizer()
    for text in (*HOSTILE_TEXTS, " a  b\n", "<reason>x</reason><img_search><img></img_search>", "🚢é"):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
    assert len(tokenizer.encode("<text_search>", add_special_tokens=False)) == 1
    kept = tokenizer.decode(tokenizer.encode("<reason>x</reason><|im_end|>"), skip_special_tokens=True)
    assert kept == "<reason>x</reason>"
