"""What comes in through any door becomes a question here: text, pictures (bytes, data URIs, addresses), history."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import Awaitable, Sequence
from dataclasses import replace

from PIL.Image import Image

from deepmmsearch import images
from deepmmsearch.compose.asking import read_question
from deepmmsearch.compose.serving import UploadSettings
from deepmmsearch.errors import Failed, UserError
from deepmmsearch.serve.refusals import NamedRefusal, TooMuch
from deepmmsearch.types import Exchange, Question

_DATA_URI = re.compile(
    r"data:(?:image/[\w.+-]{1,40}|application/pdf)?(?:;[\w=.-]{1,40}){0,4};base64,", re.ASCII | re.IGNORECASE
)
# times the characters of a question, for all that was said before it
EARLIER = 10
_ADDRESS = ("https://", "http://")


async def take_question(
    text: str, pictures: Sequence[bytes | str | Image], history: Sequence[Exchange], bounds: UploadSettings
) -> Question:
    """A picture is the bytes of a file, a data URI, a web address, or one that was taken before: never a path. Of the
    history the last exchanges are kept.

    Raises TooMuch, or UserError for what is not a question or a picture.
    """
    if len(text) > bounds.characters:
        raise TooMuch(
            f"The question has {len(text)} characters, at most {bounds.characters} are taken. Shorten it.",
            "long_question",
            most=bounds.characters,
        )
    kept = _latest(history[-bounds.exchanges :] if bounds.exchanges else (), EARLIER * bounds.characters)
    if not text.strip():
        raise NamedRefusal("The question is empty. Write one.", "no_question")
    # with the pictures it would be named after their pixels, which takes time and is of no use here
    question = await read_question(text, (), [(earlier.question, earlier.answer) for earlier in kept])
    return replace(question, images=tuple(await take_pictures(pictures, bounds)))


def _latest(history: Sequence[Exchange], characters: int) -> Sequence[Exchange]:
    """Those from the end on that have no more characters together."""
    for number in range(len(history) - 1, -1, -1):
        characters -= len(history[number].question) + len(history[number].answer)
        if characters < 0:
            return history[number + 1 :]
    return history


async def take_pictures(pictures: Sequence[bytes | str | Image], bounds: UploadSettings) -> list[Image]:
    """The pictures of a question alone. Raises as `take_question` does."""
    if len(pictures) > bounds.pictures:
        raise TooMuch(
            f"{len(pictures)} pictures were given, at most {bounds.pictures} are taken. Leave some out.",
            "too_many",
            most=bounds.pictures,
        )
    return [await _named(_picture(given, number, bounds), number) for number, given in enumerate(pictures, 1)]


async def _named(picture: Awaitable[Image], number: int) -> Image:
    try:
        return await picture
    except (NamedRefusal, Failed):
        raise
    # what is wrong with its bytes, or its address, is told in English alone
    except UserError as error:
        raise NamedRefusal(str(error), "bad_picture", number=number, why=str(error)) from error


async def _picture(given: bytes | str | Image, number: int, bounds: UploadSettings) -> Image:
    name = f"picture {number}"
    if isinstance(given, Image):
        return given
    if isinstance(given, str) and given.startswith(_ADDRESS):
        (found,) = (await read_question("?", [given])).images
        if found.width * found.height > bounds.pixels:
            raise TooMuch(_too_many(name, bounds), "many_pixels", number=number, most=bounds.pixels / 1e6)
        return found
    content = given if isinstance(given, bytes) else read_data_uri(given, name, bounds.bytes)
    if len(content) > bounds.bytes:
        raise _too_large(
            f"{name.capitalize()} has {len(content)} bytes, at most {bounds.bytes} are taken.", bounds.bytes
        )
    loading = images.loading(content, max_pixels=bounds.pixels, formats=images.WEB_FORMATS, name=name, kept=True)
    return await asyncio.wrap_future(loading)


def read_data_uri(uri: str, name: str, most: int) -> bytes:
    """The bytes in it; `name` stands in messages. Raises UserError, TooMuch for more than `most` bytes."""
    begin = _DATA_URI.match(uri)
    if begin is None:
        raise UserError(
            f"{name.capitalize()} begins {uri[:20]!r}. Give a data URI (data:image/png;base64,...) or the address of a "
            "picture (https://...)."
        )
    if (len(uri) - begin.end()) * 3 // 4 > most + 3:
        raise _too_large(f"{name.capitalize()} has more than {most} bytes. Make it smaller.", most)
    try:
        return base64.b64decode(uri[begin.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise UserError(f"{name.capitalize()} is not base64. Encode the bytes of its file anew.") from None


def _too_large(message: str, most: int) -> TooMuch:
    return TooMuch(message, "large_file", most=most / 1e6)


def _too_many(name: str, bounds: UploadSettings) -> str:
    return f"{name.capitalize()} has more than {bounds.pixels / 1e6:g} megapixels. Make it smaller."
