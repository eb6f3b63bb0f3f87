"""Tools put together: which providers in which order, who reads, grounds, matches and summarises, what is recorded, and
what may be spent."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from PIL.Image import Image
from PIL.Image import new as new_picture

from deepmmsearch.agent import Toolbox
from deepmmsearch.agent.metering import Budget, Ledger, Purse
from deepmmsearch.agent.protocols import Grounder, Interpreter, LanguageModel, Matcher, PageReader, PictureReader
from deepmmsearch.agent.table import SERVED, make_tool
from deepmmsearch.compose.endpoints import chat_model, seeing_model
from deepmmsearch.compose.searches import Searches
from deepmmsearch.compose.served_tools import served_tools
from deepmmsearch.compose.tool_parts import (
    BOX_DIALECTS,
    AutoMatcherSettings,
    ChatGroundingSettings,
    ChatSummarizerSettings,
    DinoGroundingSettings,
    EncoderMatcherSettings,
    ExtractiveSummarizerSettings,
    NoGroundingSettings,
    NoMatcherSettings,
    NoSummarizerSettings,
    OwnGroundingSettings,
    OwnSummarizerSettings,
    PictureMatcherSettings,
    ProviderReaderSettings,
    RankMatcherSettings,
    WebReaderSettings,
)
from deepmmsearch.compose.tool_settings import (
    CacheSettings,
    LiveSettings,
    LocalToolSettings,
    NetworkSettings,
    NoToolSettings,
    ProviderSettings,
    ProviderToolSettings,
    RecorderSettings,
    ToolSettings,
)
from deepmmsearch.errors import MissingExtra, ToolError, UnknownName, UserError
from deepmmsearch.index_place import Place
from deepmmsearch.redaction import public_address
from deepmmsearch.types import Completion, Policy

if TYPE_CHECKING:
    from deepmmsearch.tools.failover import SearchTool
    from deepmmsearch.tools.grounding import BoxDialect, Speaker
    from deepmmsearch.tools.llm_summarizer import LlmSummarizer
    from deepmmsearch.tools.providers.catalog import Kind
    from deepmmsearch.tools.recorder import Recorder
    from deepmmsearch.tools.summarizer import Encode


_Matching = NoMatcherSettings | RankMatcherSettings | PictureMatcherSettings | EncoderMatcherSettings


def build_toolbox(settings: ToolSettings, policy: Policy, environ: Mapping[str, str] = os.environ) -> Toolbox:
    """Raises UnknownName for an unknown provider or setting of one; UserError for a missing key or index, or what the
    policy cannot do; MissingExtra."""
    if isinstance(settings, NoToolSettings):
        return Toolbox()
    return Assembly(settings, environ).toolbox(policy)


def make_provider(
    provider: ProviderSettings,
    kind: Kind,
    network: NetworkSettings,
    index: Place | None = None,
    environ: Mapping[str, str] = os.environ,
) -> SearchTool:
    """One provider alone. Raises as `build_toolbox` does."""
    made: SearchTool = Searches(network, index, environ).provider(kind, provider)
    return made


def build_recorder(settings: RecorderSettings, environ: Mapping[str, str] = os.environ) -> Recorder | None:
    """None in mode live, which touches no file."""
    if isinstance(settings, LiveSettings):
        return None
    from deepmmsearch.tools.cassette import Cassette
    from deepmmsearch.tools.recorder import Recorder

    cassette = Cassette(settings.cassette, read_only=settings.mode == "replay")
    ttl = settings.ttl if isinstance(settings, CacheSettings) else {}
    return Recorder(cassette, settings.mode, ttl, environ=environ)


def find_grounder(policy: Policy, dialect: str | None = None) -> Grounder | None:
    """Grounding by the policy's own model, in `dialect`, the one its card names, or that of its type; None where it has
    no model."""
    from deepmmsearch.tools.grounding import Speaker

    _check_dialect(dialect or _card_dialect(policy))
    return model_grounder(policy, dialect) if isinstance(policy, Speaker) else None


def model_grounder(speaker: Speaker, dialect: str | None = None) -> Grounder:
    """Where boxes in pixels come from an endpoint, it is seen to once that its model sees pictures as they are sent: if
    not, the question fails, or the crop alone where pixels are but a guess."""
    from deepmmsearch.tools.grounding import (
        FrameError,
        Once,
        OwnModelGrounder,
        PictureCounter,
        box_dialect,
        check_frame,
    )

    named = dialect or _card_dialect(speaker) or box_dialect(getattr(speaker, "model_type", ""))
    if named is not None and named != "qwen2.5-vl":
        return OwnModelGrounder(speaker, speaker.view, cast("BoxDialect", named))
    kind = FrameError if named else ToolError
    ready = Once(partial(check_frame, speaker, kind)) if isinstance(speaker, PictureCounter) else None
    return OwnModelGrounder(speaker, speaker.view, "qwen2.5-vl", ready)


def _check_dialect(name: str | None) -> None:
    if name is not None and name not in BOX_DIALECTS:
        raise UnknownName("grounding dialect", name, BOX_DIALECTS)


def _card_dialect(speaker: object) -> str | None:
    return getattr(getattr(speaker, "card", None), "grounding", None)


@dataclass
class Assembly:
    """Puts one toolbox together."""

    settings: LocalToolSettings | ProviderToolSettings
    environ: Mapping[str, str]
    searches: Searches = field(init=False)

    def __post_init__(self) -> None:
        s = self.settings
        self.searches = Searches(s.network, s.index, self.environ, s.encoders)

    def toolbox(self, policy: Policy) -> Toolbox:
        s = self.settings
        recorder = build_recorder(s.recorder, self.environ)
        texts: tuple[ProviderSettings, ...] = (ProviderSettings(name="local"),)
        images = texts
        if isinstance(s, ProviderToolSettings):
            texts, images = s.text, s.image
            self.check_prices()
        elif s.index is None:
            raise UserError("Local tools need an index. Build one with: deepmmsearch index build FOLDER")
        text = self.searches.search("text", texts, recorder)
        image = self.searches.search("image", images, recorder)
        if text is None and image is None:
            raise UserError(f"None of the providers can be used. {' '.join(dict.fromkeys(self.searches.left_out))}")
        return Toolbox(
            text,
            image,
            self.grounder(policy, recorder),
            self.reader(recorder),
            text_hits=s.text_hits,
            image_hits=s.image_hits,
            image_lines=s.image_lines,
            min_passage=s.min_passage,
            pages=s.pages,
            box_threshold=self.box_threshold(),
            crop_padding=s.crop_padding,
            thumbnails=s.thumbnails,
            matcher=self.matcher(recorder) if image is not None else None,
            extra=(*self.extra_tools(), *served_tools(s.mcp, self.searches.client, self.environ, recorder)),
            ocr=self.ocr(policy, recorder),
            interpreter=self.interpreter(recorder),
            ledger=self.ledger(),
            **self.summarizers(policy, recorder),
        )

    def grounder(self, policy: Policy, recorder: Recorder | None) -> Any:
        from deepmmsearch.tools.recorded import RecordedGrounder

        g = self.settings.grounding
        if isinstance(g, NoGroundingSettings):
            return None
        if isinstance(g, OwnGroundingSettings):
            # a call of the policy, whose weights may change from one update to the next: not recorded
            return find_grounder(policy, g.dialect)
        replaying = recorder is not None and recorder.mode == "replay"
        tool = None if replaying else self.detector(g) if isinstance(g, DinoGroundingSettings) else self.other_model(g)
        if recorder is None:
            return tool
        known = {"provider": f"{g.kind}:{g.model or 'default'}", "dialect": getattr(g, "dialect", None)}
        return RecordedGrounder(tool, recorder, {**known, "text_threshold": getattr(g, "text_threshold", 0.25)})

    def box_threshold(self) -> float:
        from deepmmsearch.tools.grounding import THRESHOLDS

        g = self.settings.grounding
        given = None if isinstance(g, NoGroundingSettings) else g.box_threshold
        return given if given is not None else THRESHOLDS.get(g.kind, 0.0)

    def detector(self, g: DinoGroundingSettings) -> Grounder:
        try:
            from deepmmsearch.tools.grounding.dino import DEFAULT_MODEL, DinoGrounder
        except ModuleNotFoundError as error:
            raise MissingExtra("Grounding DINO", "local") from error
        return DinoGrounder(g.model or DEFAULT_MODEL, text_threshold=g.text_threshold, device=g.device)

    def other_model(self, g: ChatGroundingSettings) -> Grounder:
        """Another vision-language model behind an endpoint."""
        return model_grounder(seeing_model(g), g.dialect)

    def reader(self, recorder: Recorder | None) -> PageReader | None:
        from deepmmsearch.tools.recorded import RecordedReader

        given = self.settings.reader
        if given.kind == "none":
            return None
        replaying = recorder is not None and recorder.mode == "replay"
        tool = None if replaying else self.new_reader()
        options = getattr(given, "options", {})
        return tool if recorder is None else RecordedReader(tool, recorder, {"provider": given.kind, **options})

    def new_reader(self) -> PageReader:
        from deepmmsearch.tools.providers import catalog

        given = self.settings.reader
        if isinstance(given, WebReaderSettings):
            from deepmmsearch.tools.page_reader import WebReader

            options = {"max_bytes": self.settings.network.max_bytes, **given.options}
            return WebReader(self.searches.client(), **catalog.checked("web", WebReader, options))
        if isinstance(given, ProviderReaderSettings):
            offered = catalog.PROVIDERS.names()
            readers = ["none", "local", "web", *(name for name in offered if "page" in catalog.listing(name).kinds)]
            if given.kind not in readers:
                raise UnknownName("reader", given.kind, readers)
            reader: PageReader = catalog.make(
                given.kind, "page", given.options, self.searches.client, self.environ, given.key_variable
            )
            return reader
        from deepmmsearch.engine import Index
        from deepmmsearch.tools.index_tools import LocalReader

        if self.settings.index is None:
            raise UserError("The local reader needs an index. Build one with: deepmmsearch index build FOLDER")
        return LocalReader(Index.open(self.settings.index))

    def matcher(self, recorder: Recorder | None) -> Matcher | None:
        from deepmmsearch.tools.recorded import RecordedMatcher

        given = self._matching()
        if isinstance(given, NoMatcherSettings):
            return None
        replaying = recorder is not None and recorder.mode == "replay"
        tool = None if replaying else self.new_matcher(given)
        model, threshold = getattr(given, "model", None), getattr(given, "threshold", 0.8)
        known = {"provider": given.kind, "ranks": given.ranks, "model": model, "threshold": threshold}
        return tool if recorder is None else RecordedMatcher(tool, recorder, known)

    def _matching(self) -> _Matching:
        given = self.settings.matcher
        if not isinstance(given, AutoMatcherSettings):
            return given
        if isinstance(self.settings, LocalToolSettings):
            return NoMatcherSettings()  # the local engine marks its hits itself
        kind = PictureMatcherSettings if _installed("cv2") else RankMatcherSettings
        return kind(ranks=given.ranks)

    def new_matcher(self, given: RankMatcherSettings | PictureMatcherSettings | EncoderMatcherSettings) -> Matcher:
        from deepmmsearch.tools.matching import PictureMatcher, RankMatcher, SameByEncoder, same_subject

        if isinstance(given, RankMatcherSettings):
            return RankMatcher(given.ranks)
        if isinstance(given, PictureMatcherSettings):
            if not _installed("cv2"):
                raise MissingExtra("Matching hits by their pictures", "engine")
            return PictureMatcher(same_subject, given.ranks)
        from deepmmsearch.engine.encoders import image_encoder

        return PictureMatcher(SameByEncoder(image_encoder(given.model), given.threshold), given.ranks)

    def summarizers(self, policy: Policy, recorder: Recorder | None) -> dict[str, Any]:
        """The toolbox's summarizer, condenser and stand_in."""
        from deepmmsearch.tools.recorded import RecordedCondenser, RecordedSummarizer
        from deepmmsearch.tools.summarizer import ExtractiveSummarizer

        given = self.settings.summarizer
        if isinstance(given, NoSummarizerSettings):
            return {}
        replaying = recorder is not None and recorder.mode == "replay"
        extractive = ExtractiveSummarizer(given.sentences, None if replaying else sentence_encoder(given.encoder))
        if isinstance(given, ExtractiveSummarizerSettings):
            known = {"provider": "extractive", "sentences": given.sentences, "encoder": given.encoder}
            return {"summarizer": extractive if recorder is None else RecordedSummarizer(extractive, recorder, known)}
        if isinstance(given, OwnSummarizerSettings):
            recorder = None  # for the reason given in `grounder`
            written = own_summarizer(policy)
        else:
            written = chat_summarizer(given, replaying=replaying)
        if given.per_page:
            spoken: Any = written if recorder is None else RecordedSummarizer(written, recorder)
            return {"summarizer": spoken, "stand_in": extractive}
        spoken = written if recorder is None else RecordedCondenser(written, recorder)
        return {"condenser": spoken, "stand_in": extractive}

    def extra_tools(self) -> tuple[Any, ...]:
        return tuple(make_tool(tool.name, tool.options) for tool in self.settings.extra)

    def ocr(self, policy: Policy, recorder: Recorder | None) -> PictureReader | None:
        """Where a tool needs it."""
        from deepmmsearch.tools.picture_reader import ModelReader, OcrReader
        from deepmmsearch.tools.recorded import RecordedPictureReader

        reading = next((tool for tool in self.settings.extra if tool.name == "read_text"), None)
        if reading is None:
            return None
        if reading.options.get("reader") == "own":
            if not callable(getattr(policy, "complete", None)):
                raise UserError("This policy has no model that could read pictures. Set reader of read_text to ocr.")
            own: LanguageModel = policy  # type: ignore[assignment]
            # for the reason given in `grounder` not recorded
            return ModelReader(own, getattr(policy, "name", "own"))
        replaying = recorder is not None and recorder.mode == "replay"
        tool = None if replaying else OcrReader()
        return tool if recorder is None else RecordedPictureReader(tool, recorder, {"provider": OcrReader.name})

    def interpreter(self, recorder: Recorder | None) -> Interpreter | None:
        """Where a tool needs it."""
        from deepmmsearch.tools.interpreter import IsolatedPython
        from deepmmsearch.tools.recorded import RecordedInterpreter

        if not any(tool.name == "python" for tool in self.settings.extra):
            return None
        replaying = recorder is not None and recorder.mode == "replay"
        tool = None if replaying else IsolatedPython()
        return tool if recorder is None else RecordedInterpreter(tool, recorder, {"provider": IsolatedPython.name})

    # The run

    def ledger(self) -> Ledger:
        b = self.settings.budget
        return Ledger(
            self.settings.prices,
            Budget(b.question_calls, b.question_money),
            Purse(Budget(b.run_calls, b.run_money), "run"),
        )

    def check_prices(self) -> None:
        from deepmmsearch.tools.providers.catalog import PROVIDERS

        known = PROVIDERS.names()
        own = {tool.name for tool in self.settings.extra} | {f"{SERVED}{server.name}" for server in self.settings.mcp}
        for name in self.settings.prices.keys() - own:
            # models are named as their endpoints or folders are
            if name not in known and not {":", "/"} & set(name):
                raise UnknownName("provider in prices", name, known)


def sentence_encoder(model: str | None) -> Encode | None:
    if model is None:
        return None
    from deepmmsearch.engine.encoders import SentenceEncoder

    return SentenceEncoder(model).encode_document


def own_summarizer(policy: Policy) -> LlmSummarizer:
    from deepmmsearch.tools.llm_summarizer import LlmSummarizer

    if not callable(getattr(policy, "complete", None)):
        raise UserError("This policy has no model that could summarise. Set summarizer to extractive or chat.")
    own: LanguageModel = policy  # type: ignore[assignment]
    return LlmSummarizer(own, name=f"llm:{getattr(policy, 'name', 'own')}")


def chat_summarizer(given: ChatSummarizerSettings, *, replaying: bool) -> LlmSummarizer:
    from deepmmsearch.tools.llm_summarizer import LlmSummarizer

    model: LanguageModel = _Unasked() if replaying else chat_model(given)
    return LlmSummarizer(model, name=f"llm:{given.model or public_address(given.base_url)}")


class _Unasked:
    """Stands where a replay needs no model: it has no key, and is never asked."""

    async def complete(self, conversation: Sequence[dict[str, Any]], pictures: Sequence[Image] = ()) -> Completion:
        raise AssertionError("a replay asks no model")


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


async def try_tools(tools: Toolbox) -> None:
    """One search with each tool: a backend that is down is found before anything else is done. Raises UserError."""
    searches = []
    if tools.text_search is not None:
        searches.append(("text search", tools.text_search.search("capital of France", 1)))
    if tools.image_search is not None:
        searches.append(("image search", tools.image_search.search(new_picture("RGB", (64, 64), "white"), 1)))
    for name, search in searches:
        try:
            await search
        # whatever goes wrong now would go wrong in every episode
        except Exception as error:
            raise UserError(f"The {name} does not work: {error} Repair it, or choose other tools.") from error
