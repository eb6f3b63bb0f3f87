"""Trajectories as the tokens of a model, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from deepmmsearch.policies.local.checkpoint import load_tokenizer
from deepmmsearch.policies.local.families import placeholder
from deepmmsearch.policies.local.template import template_of
from deepmmsearch.renderer import Renderer


class TokenReader:
    """Renders trajectories for a model's tokenizer; no weights are loaded. Raises UserError like `LocalPolicy.load`."""

    def __init__(self, source: str | Path) -> None:
        config, self.tokenizer = load_tokenizer(str(source))
        token, template = placeholder(config, self.tokenizer), template_of(self.tokenizer)
        self.renderer = Renderer(self.tokenizer, image_token=token, template=template)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """What each token adds to the text; what is only part of a character shows as such."""
        alone = [self._decode([i]) for i in ids]
        # Word-level tokenizers write blanks between tokens, which no token alone has.
        pairs = [self._decode(pair) for pair in pairwise(ids)]
        after = [p[len(a) :] if p.startswith(a) else b for (a, b), p in zip(pairwise(alone), pairs, strict=True)]
        return [*alone[:1], *after]

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False))
