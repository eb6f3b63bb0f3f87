"""BEM, a BERT that says whether two answers to a question mean the same (Bulian et al. 2022, arXiv 2202.07654).

Any checkpoint of transformers in the form of that model: candidate, reference and question with separators between
them, two classes of which the second is "equivalent". `kortukov/answer-equivalence-bem` is one.
"""

from __future__ import annotations

import threading
from functools import cached_property
from typing import Any

from deepmmsearch.errors import MissingExtra

WHAT = "model of answer equivalence"
LONGEST = 512
EQUIVALENT = 0.5


class Bem:
    """Loads `name`, a folder or a name on the Hub, when it is first asked."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._lock = threading.Lock()

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        try:
            from transformers import AutoModelForSequenceClassification

            from deepmmsearch.policies.local.checkpoint import load_model, load_tokenizer
        except ImportError:
            raise MissingExtra("BEM", "local") from None
        _, tokenizer = load_tokenizer(self.name, WHAT)
        return tokenizer, load_model(AutoModelForSequenceClassification, WHAT, self.name).eval()

    def equivalence(self, question: str, reference: str, candidate: str) -> float:
        """In [0, 1]. Raises UserError for a model that cannot be loaded, MissingExtra."""
        import torch

        with self._lock:
            tokenizer, model = self._parts
            parts = [
                # what somebody wrote is never one of the model's own signs
                tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
                for text in (candidate, reference, question)
            ]
            first, *rest = [[*part, tokenizer.sep_token_id] for part in parts]
            ids = [tokenizer.cls_token_id, *first, *(token for part in rest for token in part)][:LONGEST]
            types = [int(at > len(first)) for at in range(len(ids))]
            with torch.inference_mode():
                found = model(
                    input_ids=torch.tensor([ids]),
                    token_type_ids=torch.tensor([types]),
                    attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                )
            return float(torch.softmax(found.logits[0], dim=-1)[1])
