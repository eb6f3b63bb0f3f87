"""Reading what is written in pictures, in this machine (`reading.ocr`)."""

from __future__ import annotations

from importlib.util import find_spec

from PIL.Image import Image

from deepmmsearch.agent.metering import calling
from deepmmsearch.errors import MissingExtra, ToolError, Unreadable
from deepmmsearch.reading.ocr import TextReader
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
