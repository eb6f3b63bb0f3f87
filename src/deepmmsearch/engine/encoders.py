"""Neural encoders, by name, loaded only when an index asks for one. Nothing here is needed for BM25 and descriptors."""

from __future__ import annotations

import os
import shlex
import unicodedata
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from deepmmsearch.engine import efficientnet, minilm
from deepmmsearch.engine.prefixes import Prefixes, prefixes_of
from deepmmsearch.errors import MissingExtra, UserError

# the names that an index of somebody else may bring along; every other one has to come from the user
KNOWN = frozenset(
    (
        minilm.NAME,
        efficientnet.NAME,
        "sentence-transformers/all-MiniLM-L6-v2",
        "sentence-transformers/all-mpnet-base-v2",
        *(f"intfloat/{name}-{size}" for name in ("e5", "multilingual-e5") for size in ("small", "base", "large")),
        *(f"BAAI/bge-{size}-en-v1.5" for size in ("small", "base", "large")),
        "BAAI/bge-m3",
        *(f"Snowflake/snowflake-arctic-embed-{size}" for size in ("xs", "s", "m", "l", "m-v2.0", "l-v2.0")),
        *(f"Qwen/Qwen3-Embedding-{size}" for size in ("0.6B", "4B", "8B")),
        "google/embeddinggemma-300m",
        "mixedbread-ai/mxbai-embed-large-v1",
        *(f"google/siglip2-{size}-patch16-{side}" for size in ("base", "large") for side in (256, 384)),
        "google/siglip2-base-patch16-224",
        "google/siglip-base-patch16-224",
        "openai/clip-vit-base-patch32",
        "openai/clip-vit-large-patch14",
        *(f"facebook/dinov2-{size}" for size in ("small", "base", "large")),
    )
)


def refuse_unnamed(name: str | None, place: str, named: Collection[str]) -> None:
    """Raises UserError for an encoder that the index in `place` names and the user does not (`named`): whoever made
    the index chose which model it is, and a path may lead to one of his own."""
    if name is None or name in named or (name in KNOWN and not Path(name).exists()):
        return
    raise UserError(
        f"The index in {place} was built with the encoder {name!r}, which is loaded only if you name it, for an index "
        "of somebody else may name a model of his own. If you know it, run: "
        f"deepmmsearch config set encoders {shlex.quote(name)}"
    )


class TextEncoder(Protocol):
    """Both give float32 (texts, dimensions), rows of unit length. `prefixes` are what is read before each text."""

    prefixes: Prefixes

    def encode_query(self, texts: Sequence[str]) -> np.ndarray: ...

    def encode_document(self, texts: Sequence[str]) -> np.ndarray: ...

    def known(self, query: str) -> float:
        """How well the vocabulary knows the language of a query, 0 to 1: has it words, or hardly more than letters?"""
        ...


class ImageEncoder(Protocol):
    def encode(self, images: Sequence[Image.Image]) -> np.ndarray:
        """float32 (images, dimensions), rows of unit length."""
        ...


@runtime_checkable
class WordsAndImages(ImageEncoder, Protocol):
    """An image encoder whose vectors words have, too."""

    def encode_words(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (texts, dimensions), rows of unit length, to be compared with those of pictures."""
        ...


class SentenceEncoder:
    """Any sentence-transformers model by name or folder; `minilm` is all-MiniLM-L6-v2 out of a package, offline.

    query_prefix, passage_prefix: in place of the model's own or its family's (prefixes.py).
    """

    def __init__(
        self, name: str, query_prefix: str | None = None, passage_prefix: str | None = None, threads: int = 1
    ) -> None:
        try:
            import torch
            from sentence_transformers import SentenceTransformer
        except ImportError:
            raise MissingExtra("Dense text search", "dense") from None
        self._torch, self._threads = torch, threads
        source = os.fspath(minilm.checked_folder()) if name == minilm.NAME else name
        try:
            self._model = SentenceTransformer(source, device="cpu", trust_remote_code=False)
        except Exception as error:  # the hub's errors have no common type
            raise UserError(
                f"The text encoder {name!r} could not be loaded ({_first_line(error)}). "
                f"Give a sentence-transformers model, a folder, or {minilm.NAME!r}, which needs no network."
            ) from error
        self.prefixes = prefixes_of(name, self._model.prompts, query_prefix, passage_prefix)

    def encode_query(self, texts: Sequence[str]) -> np.ndarray:
        return self._encoded(self._model.encode_query, texts, self.prefixes.query)

    def encode_document(self, texts: Sequence[str]) -> np.ndarray:
        return self._encoded(self._model.encode_document, texts, self.prefixes.passage)

    def known(self, query: str) -> float:
        tokenizer = getattr(self._model, "tokenizer", None)
        if not callable(tokenizer):  # static embeddings
            return 1.0
        spelled = [_letters(token) for token in tokenizer.tokenize(query) if token != tokenizer.unk_token]
        # an unknown token stands for a whole word, of a script without blanks for a whole sentence
        if 2 * sum(spelled) < _letters(query):
            return 0.0
        each = sum(spelled) / max(1, sum(map(bool, spelled)))
        return min(1.0, max(0.0, (each - SPELLED) / (WORDS - SPELLED)))

    def _encoded(self, encode: Callable[..., Any], texts: Sequence[str], prefix: str) -> np.ndarray:
        before = self._torch.get_num_threads()
        # on busy cores a second thread makes a query forty times slower
        self._torch.set_num_threads(self._threads)
        try:
            vectors = encode(
                list(texts), prompt=prefix, batch_size=32, normalize_embeddings=True, show_progress_bar=False
            )
        finally:
            self._torch.set_num_threads(before)
        return np.asarray(vectors, np.float32)


# letters a token: fewer and a text is spelled, more and it consists of words that the vocabulary has
SPELLED, WORDS = 1.5, 3.5


def _letters(text: str) -> int:
    return sum(unicodedata.category(letter)[0] in "LMN" for letter in text)


def image_encoder(name: str) -> ImageEncoder:
    """By name or folder. Raises MissingExtra, and UserError where there is no such model."""
    if name == efficientnet.NAME:
        return efficientnet.EfficientNetLite0()
    encoder = VisionEncoder(name)
    return WordsAndPictures(encoder, name) if encoder.reads_words else encoder


class VisionEncoder:
    """Any SigLIP, CLIP or DINO model that transformers loads, by name or folder."""

    def __init__(self, name: str) -> None:
        try:
            import torch
            from transformers import AutoModel

            from deepmmsearch.policies.local.checkpoint import load_image_processor, load_model
        except ImportError:
            raise MissingExtra("A neural image encoder", "local") from None
        self._torch = torch
        self.model: Any = load_model(AutoModel, "image encoder", name).eval()
        self._processor = load_image_processor(name)

    @property
    def reads_words(self) -> bool:
        return hasattr(self.model, "get_text_features")

    def encode(self, images: Sequence[Image.Image]) -> np.ndarray:
        inputs = self._processor(images=[image.convert("RGB") for image in images], return_tensors="pt")
        with self._torch.inference_mode():
            if hasattr(self.model, "get_image_features"):
                features = self.model.get_image_features(**inputs)
            else:
                features = self.model(**inputs)
        return _unit(features)


class WordsAndPictures:
    """A SigLIP or CLIP model: words and pictures in one space."""

    def __init__(self, pictures: VisionEncoder, name: str) -> None:
        from deepmmsearch.policies.local.checkpoint import load_tokenizer

        self._pictures = pictures
        config, self._tokenizer = load_tokenizer(name)
        # SigLIP was trained on texts padded to one length, CLIP does not mind
        self._padding = {"padding": "max_length", "max_length": _longest(config), "truncation": True}

    def encode(self, images: Sequence[Image.Image]) -> np.ndarray:
        return self._pictures.encode(images)

    def encode_words(self, texts: Sequence[str]) -> np.ndarray:
        import torch

        inputs = self._tokenizer(list(texts), return_tensors="pt", **self._padding)
        known = {name: inputs[name] for name in ("input_ids", "attention_mask") if name in inputs}
        with torch.inference_mode():
            return _unit(self._pictures.model.get_text_features(**known))


def _longest(config: Any) -> int:
    """Tokens that the model's text side reads at most; 64 where it does not say."""
    return int(getattr(getattr(config, "text_config", config), "max_position_embeddings", 64))


def _unit(features: Any) -> np.ndarray:
    vectors = _pooled(features).float().numpy()
    return np.asarray(vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-9), np.float32)


def _pooled(features: Any) -> Any:
    """One vector per image: the pooled output, or the class token where a model has no pooling."""
    if hasattr(features, "shape"):
        return features
    pooled = getattr(features, "pooler_output", None)
    return pooled if pooled is not None else features.last_hidden_state[:, 0]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
