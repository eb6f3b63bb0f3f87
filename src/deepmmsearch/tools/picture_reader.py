"""Reading what is written in pictures: in this machine (`reading.ocr`), or by the policy's own model."""

from __future__ import annotations

from importlib.util import find_spec

from PIL.Image import Image

from deepmmsearch.agent.metering import calling
from deepmmsearch.agent.protocols import LanguageModel
from deepmmsearch.errors import MissingExtra, ToolError, Unreadable, UserError
from deepmmsearch.prompts import transcript_prompt
from deepmmsearch.reading.ocr import TextReader
from deepmmsearch.thoughts import without_thoughts
from deepmmsearch.tools.threads import ToolThreads


class OcrReader:
    """PictureReader by RapidOCR, in one process that is started when it is needed."""

    name = "rapidocr"

    def __init__(self) -> None:
        """Raises MissingExtra."""
        if find_spec("rapidocr") is None:
            raise MissingExtra("Reading text in pictures", "ocr")
        self._reader, self._threads = TextReader(), ToolThreads("ocr", 1)

    async def transcribe(self, image: Image) -> str:
        with calling("ocr", self.name):
            try:
                return await self._threads.run(self._reader.picture, image.convert("RGB"))
            except Unreadable as error:
                raise ToolError(f"The text in the picture cannot be read: {error}.") from None


class ModelReader:
    """PictureReader by a model that sees."""

    def __init__(self, model: LanguageModel, name: str) -> None:
        self._model, self.name = model, name

    async def transcribe(self, image: Image) -> str:
        said = [{"type": "image"}, {"type": "text", "text": transcript_prompt()}]
        with calling("ocr", self.name):
            try:
                completion = await self._model.complete([{"role": "user", "content": said}], [image.convert("RGB")])
            except UserError as error:
                raise ToolError(f"The text in the picture cannot be read: {error}") from error
        if completion.finish in ("filter", "refusal", "cut", "context"):
            raise ToolError("The text in the picture cannot be read: the model gave no whole reply.")
        text = without_thoughts(completion.text).strip()
        return "" if text.strip(".").upper() == "NOTHING" else text
