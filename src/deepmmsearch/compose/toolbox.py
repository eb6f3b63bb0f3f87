"""Tools put together: which providers in which order, who reads, grounds, matches and summarises, what is recorded, and
what may be spent."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from PIL.Image import Image

from deepmmsearch.agent import Toolbox
from deepmmsearch.agent.metering import Budget, Ledger, Purse
from deepmmsearch.agent.protocols import Grounder, LanguageModel, Matcher, PageReader
from deepmmsearch.compose.searches import Searches
from deepmmsearch.compose.tool_settings import (
    BOX_DIALECTS,
    GROUNDERS,
    KINDS,
    MATCHERS,
    SUMMARIZERS,
    ProviderSettings,
    ToolSettings,
)
from deepmmsearch.errors import MissingExtra, UnknownName, UserError
from deepmmsearch.types import Completion, Policy

if TYPE_CHECKING:
    from deepmmsearch.tools.failover import SearchTool
    from deepmmsearch.tools.llm_summarizer import LlmSummarizer
    from deepmmsearch.tools.providers.catalog import Kind
    from deepmmsearch.tools.recorder import Recorder
    from deepmmsearch.tools.summarizer import Encode


def build_toolbox(settings: ToolSettings, policy: Policy, environ: Mapping[str, str] = os.environ) -> Toolbox:
    """Raises UnknownName for an unknown kind, provider, setting or dialect; UserError for a missing key, index or
    setting; MissingExtra."""
    for kind, found, known in (
        ("tools", settings.kind, KINDS),
        ("summarizer", settings.summarizer.kind, SUMMARIZERS),
        ("grounding", settings.grounding.kind, GROUNDERS),
        ("matcher", settings.matcher.kind or "none", MATCHERS),
    ):
        if found not in known:
            raise UnknownName(kind, found, known)
    _check_dialect(settings.grounding.dialect)
    if settings.kind == "none":
        return Toolbox()
    return _Assembly(settings, environ).toolbox(policy)


def make_provider(
    settings: ToolSettings, kind: Kind, provider: ProviderSettings, environ: Mapping[str, str] = os.environ
) -> SearchTool:
    """One provider alone, with the network settings of a toolbox. Raises as `build_toolbox` does."""
    made: SearchTool = Searches(settings, environ).provider(kind, provider)
    return made


def find_grounder(policy: Policy, dialect: str | None = None) -> Grounder | None:
    """Grounding by the policy's own model, in `dialect` or the one its card names; None where it has no model."""
    from deepmmsearch.tools.grounding import OwnModelGrounder, Speaker

    named = dialect or _card_dialect(policy)
    _check_dialect(named)
    if not isinstance(policy, Speaker):
        return None
    return OwnModelGrounder(policy, policy.view, "qwen3-vl" if named == "qwen3-vl" else "qwen2.5-vl")


def _check_dialect(name: str | None) -> None:
    if name is not None and name not in BOX_DIALECTS:
        raise UnknownName("grounding dialect", name, BOX_DIALECTS)


def _card_dialect(policy: Policy) -> str:
    return getattr(getattr(policy, "card", None), "grounding", None) or "qwen2.5-vl"


@dataclass
class _Assembly:
    """Puts one toolbox together."""

    settings: ToolSettings
    environ: Mapping[str, str]
    searches: Searches = field(init=False)

    def __post_init__(self) -> None:
        self.searches = Searches(self.settings, self.environ)

    def toolbox(self, policy: Policy) -> Toolbox:
        s = self.settings
        recorder = self.recorder()
        lists = {"text": s.text, "image": s.image}
        if s.kind == "local":
            lists = dict.fromkeys(lists, (ProviderSettings(name="local"),))
            if s.index is None:
                raise UserError("Local tools need an index. Build one with: deepmmsearch index build FOLDER")
        elif not s.text and not s.image:
            raise UserError("No provider is named. List some under text: or image:, such as text: [searxng].")
        else:
            self.check_prices()
        text = self.searches.search("text", lists["text"], recorder)
        image = self.searches.search("image", lists["image"], recorder)
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
            ledger=self.ledger(),
            **self.summarizers(policy, recorder),
        )

    def grounder(self, policy: Policy, recorder: Recorder | None) -> Any:
        from deepmmsearch.tools.recorded import RecordedGrounder

        g = self.settings.grounding
        if g.kind == "none":
            return None
        if g.kind == "own":
            # a call of the policy, whose weights may change from one update to the next: not recorded
            return find_grounder(policy, g.dialect)
        replaying = recorder is not None and recorder.mode == "replay"
        tool = None if replaying else self.detector() if g.kind == "dino" else self.other_model()
        if recorder is None:
            return tool
        known = {"provider": f"{g.kind}:{g.model or 'default'}", "dialect": g.dialect}
        return RecordedGrounder(tool, recorder, {**known, "text_threshold": g.text_threshold})

    def box_threshold(self) -> float:
        from deepmmsearch.tools.grounding import THRESHOLDS

        g = self.settings.grounding
        return g.box_threshold if g.box_threshold is not None else THRESHOLDS.get(g.kind, 0.0)

    def detector(self) -> Grounder:
        g = self.settings.grounding
        try:
            from deepmmsearch.tools.grounding.dino import DEFAULT_MODEL, DinoGrounder
        except ModuleNotFoundError as error:
            raise MissingExtra("Grounding DINO", "local") from error
        return DinoGrounder(g.model or DEFAULT_MODEL, text_threshold=g.text_threshold, device=g.device)

    def other_model(self) -> Grounder:
        """Another vision-language model behind an endpoint, which sees pictures as they are."""
        from deepmmsearch.policies.chat import ChatPolicy
        from deepmmsearch.tools.grounding import OwnModelGrounder

        g = self.settings.grounding
        if g.base_url is None:
            raise UserError("Grounding by another model needs the address of its endpoint. Set grounding.base_url.")
        speaker = ChatPolicy(g.model, g.base_url, key_variable=g.key_variable)
        return OwnModelGrounder(speaker, speaker.view, "qwen3-vl" if g.dialect == "qwen3-vl" else "qwen2.5-vl")

    def reader(self, recorder: Recorder | None) -> PageReader | None:
        from deepmmsearch.tools.recorded import RecordedReader

        given = self.settings.reader
        kind = given.kind or ("local" if self.settings.kind == "local" else "web")
        if kind == "none":
            return None
        replaying = recorder is not None and recorder.mode == "replay"
        tool = None if replaying else self.new_reader(kind)
        return tool if recorder is None else RecordedReader(tool, recorder, {"provider": kind, **given.options})

    def new_reader(self, kind: str) -> PageReader:
        from deepmmsearch.tools.providers import catalog

        given, offered = self.settings.reader, catalog.PROVIDERS.names()
        readers = ["none", "local", "web", *(name for name in offered if "page" in catalog.listing(name).kinds)]
        if kind not in readers:
            raise UnknownName("reader", kind, readers)
        if kind == "web":
            from deepmmsearch.tools.reader import WebReader

            options = {"max_bytes": self.settings.network.max_bytes, **given.options}
            return WebReader(self.searches.client(), **catalog.checked("web", WebReader, options))
        if kind != "local":
            reader: PageReader = catalog.make(
                kind, "page", given.options, self.searches.client, self.environ, given.key_variable
            )
            return reader
        from deepmmsearch.engine import Index
        from deepmmsearch.tools.local import LocalReader

        if self.settings.index is None:
            raise UserError("The local reader needs an index. Build one with: deepmmsearch index build FOLDER")
        return LocalReader(Index.open(self.settings.index))

    def matcher(self, recorder: Recorder | None) -> Matcher | None:
        from deepmmsearch.tools.recorded import RecordedMatcher

        given = self.settings.matcher
        # the local engine marks its hits itself
        usual = "none" if self.settings.kind == "local" else "picture" if _installed("cv2") else "rank"
        kind = given.kind or usual
        if kind == "none":
            return None
        replaying = recorder is not None and recorder.mode == "replay"
        tool = None if replaying else self.new_matcher(kind)
        known = {"provider": kind, "ranks": given.ranks, "model": given.model, "threshold": given.threshold}
        return tool if recorder is None else RecordedMatcher(tool, recorder, known)

    def new_matcher(self, kind: str) -> Matcher:
        from deepmmsearch.tools.matching import PictureMatcher, RankMatcher, SameByEncoder, same_subject

        given = self.settings.matcher
        if kind == "rank":
            return RankMatcher(given.ranks)
        if kind == "picture":
            if not _installed("cv2"):
                raise MissingExtra("Matching hits by their pictures", "engine")
            return PictureMatcher(same_subject, given.ranks)
        if given.model is None:
            raise UserError(
                "Matching by an encoder needs its name. Set matcher.model, such as google/siglip2-base-patch16-224."
            )
        from deepmmsearch.engine.encoders import VisionEncoder

        return PictureMatcher(SameByEncoder(VisionEncoder(given.model), given.threshold), given.ranks)

    def summarizers(self, policy: Policy, recorder: Recorder | None) -> dict[str, Any]:
        """The toolbox's summarizer, condenser and stand_in."""
        from deepmmsearch.tools.recorded import RecordedCondenser, RecordedSummarizer
        from deepmmsearch.tools.summarizer import ExtractiveSummarizer

        given = self.settings.summarizer
        if given.kind == "none":
            return {}
        replaying = recorder is not None and recorder.mode == "replay"
        extractive = ExtractiveSummarizer(given.sentences, None if replaying else self.sentence_encoder())
        if given.kind == "extractive":
            known = {"provider": "extractive", "sentences": given.sentences, "encoder": given.encoder}
            return {"summarizer": extractive if recorder is None else RecordedSummarizer(extractive, recorder, known)}
        written = self.llm_summarizer(policy, replaying=replaying)
        if given.kind == "own":
            recorder = None  # for the reason given in `grounder`
        if given.per_page:
            spoken: Any = written if recorder is None else RecordedSummarizer(written, recorder)
            return {"summarizer": spoken, "stand_in": extractive}
        spoken = written if recorder is None else RecordedCondenser(written, recorder)
        return {"condenser": spoken, "stand_in": extractive}

    def sentence_encoder(self) -> Encode | None:
        if self.settings.summarizer.encoder is None:
            return None
        from deepmmsearch.engine.encoders import SentenceEncoder

        return SentenceEncoder(self.settings.summarizer.encoder).encode

    def llm_summarizer(self, policy: Policy, *, replaying: bool) -> LlmSummarizer:
        from deepmmsearch.tools.llm_summarizer import LlmSummarizer

        given = self.settings.summarizer
        if given.kind == "own":
            if not callable(getattr(policy, "complete", None)):
                raise UserError("This policy has no model that could summarise. Set summarizer to extractive or chat.")
            own: LanguageModel = policy  # type: ignore[assignment]
            return LlmSummarizer(own, name=f"llm:{getattr(policy, 'name', 'own')}")
        if given.base_url is None:
            raise UserError("A summariser behind an endpoint needs its address. Set summarizer.base_url.")
        name = f"llm:{given.model or given.base_url}"
        if replaying:
            return LlmSummarizer(_Unasked(), name=name)
        from deepmmsearch.policies.chat import ChatPolicy

        model = ChatPolicy(
            given.model,
            given.base_url,
            key_variable=given.key_variable,
            max_new_tokens=given.max_new_tokens,
            timeout=given.timeout,
        )
        return LlmSummarizer(model, name=name)

    # The run

    def recorder(self) -> Recorder | None:
        """None in mode live, which touches no file."""
        given = self.settings.recorder
        from deepmmsearch.tools.recorder import MODES, Recorder

        if given.mode not in MODES:
            raise UnknownName("recorder mode", given.mode, MODES)
        if given.mode == "live":
            return None
        if given.cassette is None:
            raise UserError(f"Mode {given.mode} needs a file. Set recorder.cassette, such as runs/cache.sqlite.")
        from deepmmsearch.tools.cassette import Cassette

        cassette = Cassette(given.cassette, read_only=given.mode == "replay")
        return Recorder(cassette, "replay" if given.mode == "replay" else "cache", given.ttl, environ=self.environ)

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
        for name in self.settings.prices:
            # models are named as their endpoints or folders are
            if name not in known and not {":", "/"} & set(name):
                raise UnknownName("provider in prices", name, known)


class _Unasked:
    """Stands where a replay needs no model: it has no key, and is never asked."""

    async def complete(self, conversation: Sequence[dict[str, Any]], pictures: Sequence[Image] = ()) -> Completion:
        raise AssertionError("a replay asks no model")


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
