"""The bundled model with more words: those of the tools beyond two searches, and the second language.

What it had keeps its token and its vector. A Velic word begins as its English one, moved by a vector that is the same
for all of them: the model is given the dictionary, and learns to read and write by it. Another word begins as the mean
of the pieces that it was read in before.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from deepmmsearch.atlas import velic
from deepmmsearch.atlas.names import FAMOUS, FIRST, SECOND
from deepmmsearch.bundled import BUNDLED
from deepmmsearch.files import replacing
from deepmmsearch.policies.local.checkpoint import load_checkpoint, quiet_bars

CALLS = ("<zoom>", "</zoom>", "<visit>", "</visit>", '{"hit": ', '{"part": ', '{"link": ')
WORDS = """
Zoom Visit visit zoom when it small look sign read Read open second volume Part part begin here link Second annals
Annals founder patron founded laid first stone bells paid year built lost found Picture picture pixels x other language
ask nothing countries colour
""".split()
SHIFT = 0.5
"""How far Velic is from English, in lengths of a mean vector."""


def vocabulary() -> dict[str, str | None]:
    """New tokens in order, each with the one whose vector it begins as; None where it has none."""
    found: dict[str, str | None] = dict.fromkeys((*CALLS, *WORDS))
    found |= {said: word for word, said in velic.LEXICON.items()}
    names = dict.fromkeys(name for country, facts in FAMOUS.items() for name in (country, *facts.values()))
    found |= {velic.write(name): name for name in names}
    found |= {velic.write(syllable): syllable for syllable in FIRST}
    found |= {f"##{velic.write(syllable)}": f"##{syllable}" for syllable in SECOND}
    return found


def extend(folder: Path, source: Path = BUNDLED, seed: int = 0) -> None:
    """Writes the model of `source` with the new words, asked with the prompt set `atlas-tools`; whole or not at all.
    One that is there stays."""
    if folder.exists():
        return
    checkpoint = load_checkpoint(source, torch.float32)
    written = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    new = [token for token in vocabulary() if token not in _known(written)]
    first = len(_known(written))
    pieces = [checkpoint.tokenizer.encode(_text(token), add_special_tokens=False) for token in new]
    _add(written, new)
    with replacing(folder) as draft, quiet_bars():
        shutil.copytree(source, draft)
        model: Any = checkpoint.model
        model.resize_token_embeddings((first + len(new) + 15) // 16 * 16, mean_resizing=False)
        _begin(model.get_input_embeddings().weight, first, new, pieces, _known(written), seed)
        model.to(torch.bfloat16).save_pretrained(draft)
        (draft / "tokenizer.json").write_text(json.dumps(written, ensure_ascii=False), encoding="utf-8")
        card = json.loads((draft / "agent.json").read_text(encoding="utf-8"))
        card |= {"prompt": "atlas-tools"}
        (draft / "agent.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def _known(written: dict[str, Any]) -> dict[str, int]:
    """Token -> id, those beside the vocabulary among them."""
    return {**written["model"]["vocab"], **{token["content"]: token["id"] for token in written["added_tokens"]}}


def _add(written: dict[str, Any], new: list[str]) -> None:
    """Numbers go on after the last one. Those beside the vocabulary join it: else they would be numbered anew after a
    longer one."""
    known = _known(written)
    written["model"]["vocab"] = known | {token: len(known) + place for place, token in enumerate(new)}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}
    written["added_tokens"] += [
        {"id": written["model"]["vocab"][token], "content": token, **plain} for token in new if token in CALLS
    ]


def _text(token: str) -> str:
    return token.removeprefix("##")


@torch.no_grad()
def _begin(
    weight: torch.Tensor, first: int, new: list[str], pieces: list[list[int]], known: dict[str, int], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    length = weight[:first].norm(dim=1).mean()
    shift = torch.randn(weight.shape[1], generator=generator)
    shift *= SHIFT * length / shift.norm()
    like = vocabulary()
    for place, (token, read) in enumerate(zip(new, pieces, strict=True), first):
        noise = torch.randn(weight.shape[1], generator=generator)
        noise *= 0.1 * length / noise.norm()
        counterpart = like[token]
        if counterpart is not None and counterpart in known:
            weight[place] = weight[known[counterpart]] + shift + noise
        else:
            weight[place] = weight[read].mean(dim=0) + noise
