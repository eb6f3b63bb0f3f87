"""The parts of a recipe, checked by being built: all but weights, which take long, and what only the network knows."""

from __future__ import annotations

import asyncio
import difflib
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL.Image import Image

from deepmmsearch.bundled import BUNDLED
from deepmmsearch.compose.endpoints import chat_model, check_endpoint, endpoint_card
from deepmmsearch.compose.estimate import BENCHMARKS, UNKNOWN_PARAMETERS, UNKNOWN_QUESTIONS, Tempo, parameters_of
from deepmmsearch.compose.flow import is_path, makers, reads
from deepmmsearch.compose.judges import JudgeSettings, LlmJudgeSettings, build_judge
from deepmmsearch.compose.plan import RunPlan
from deepmmsearch.compose.policies import ChatPolicySettings, LocalPolicySettings, PlayerPolicySettings, PolicySettings
from deepmmsearch.compose.served_tools import tool_server
from deepmmsearch.compose.tool_parts import (
    AutoMatcherSettings,
    ChatGroundingSettings,
    ChatSummarizerSettings,
    DinoGroundingSettings,
    EncoderMatcherSettings,
    OwnSummarizerSettings,
    PictureMatcherSettings,
)
from deepmmsearch.compose.tool_settings import (
    LiveSettings,
    LocalToolSettings,
    NoToolSettings,
    ProviderSettings,
    ProviderToolSettings,
    ReplaySettings,
    ToolSettings,
)
from deepmmsearch.compose.toolbox import Assembly, find_grounder, own_summarizer, try_tools
from deepmmsearch.errors import MissingExtra, UserError
from deepmmsearch.outputs import Output
from deepmmsearch.policies.agent_card import AgentCard, read_card
from deepmmsearch.redaction import public_address
from deepmmsearch.settings import EndpointSettings, Recipe, sections
from deepmmsearch.tools.providers.catalog import MissingKey
from deepmmsearch.types import Completion, Policy, Trajectory

HUB_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


@dataclass
class StandIn:
    """Stands for a model that is not loaded, where what is built around it asks what it can."""

    name: str
    card: AgentCard

    def view(self, image: Image) -> Image:
        return image

    async def act(self, trajectory: Trajectory) -> Completion:
        raise AssertionError("a check plays nothing")

    async def complete(self, conversation: Sequence[dict[str, Any]], pictures: Sequence[Image] = ()) -> Completion:
        raise AssertionError("a check asks nothing")


@dataclass
class Parts:
    """`network`: may endpoints, search providers and the Hub be asked? `gone`: inputs that are not there, of which
    nothing more is said. `size`: parameters of a model of which nothing is known."""

    plan: RunPlan
    network: bool = False
    gone: frozenset[Path] = frozenset()
    size: float = UNKNOWN_PARAMETERS

    def parameters(self, source: str) -> float:
        """Of a model: `size` where nothing tells."""
        known = parameters_of(source)
        if known is None:
            self.plan.assumed.add(f"{source} has about {self.size / 1e6:,.0f} million parameters.")
        return known or self.size

    def inputs(self, recipe: Recipe, coming: Collection[Path] = ()) -> None:
        """Every file and folder that the recipe reads, and how to get those that are not there. `coming` will be."""
        told = {path: how for s in sections(recipe) if isinstance(s, Recipe) for path, how in s.needs.items()}
        made = makers()
        absent = {path: setting for path, setting in reads(recipe).items() if not path.exists()}
        for path, setting in list(absent.items()):
            if path in coming:
                continue
            how = told.get(str(path)) or made.get(path, "")
            if setting == "model" and not how and path.parts[:1] != ("checkpoints",):
                del absent[path]  # whoever loads it says more
                continue
            if how.startswith("deepmmsearch "):
                hint = f"Make it with: {how}"
            elif how:
                hint = f"Get {how}"
            elif path.parts[:1] == ("checkpoints",):
                hint = "It comes with a clone of the repository"
            else:
                beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
                near = difflib.get_close_matches(path.name, beside, n=1)
                hint = f"Did you mean {path.with_name(near[0])}" if near else "Make it, or give another path"
            self.plan.lacks(f"{path} is not there. {hint}{'?' if hint.startswith('Did') else '.'}")
        self.gone = frozenset(absent)

    def folder(self, output: Path, command: str, room: int) -> None:
        """Is it free for `deepmmsearch COMMAND`, and can so many bytes be written there?"""
        with self.plan.trying():
            Output(output, command)
        if output.exists() and not output.is_dir():
            return
        if output.is_dir() and any(output.iterdir()):
            self.plan.note(f"{output} is there already: what is finished in it is not done again.")
        place = next(folder for folder in (output.absolute(), *output.absolute().parents) if folder.exists())
        if not os.access(place, os.W_OK):
            self.plan.lacks(
                f"{output} cannot be written: {place} is read-only, or belongs to another user. Give another output."
            )
        free = shutil.disk_usage(place).free
        if free < room:
            # an interrupted run has written some of it
            room -= sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
        if free < room:
            self.plan.lacks(
                f"The disk of {place} has {gigabytes(free)} left, and about {gigabytes(room)} are needed. Make room, "
                "or give another output."
            )

    # Models

    def checkpoint(self, source: str, feature: str = "Running a model here", extra: str = "local") -> AgentCard:
        """A checkpoint without its weights; of one on the Hub, what is known without the network."""
        if not self.plan.has(feature, extra) or Path(source) in self.gone:
            return AgentCard()
        with self.plan.trying():
            if not is_path(source) and not self.network:
                self._on_the_hub(source)
                return read_card(source)
            from deepmmsearch.policies.local.checkpoint import read_parts

            return read_parts(source).card
        return AgentCard()

    def _on_the_hub(self, source: str) -> None:
        from huggingface_hub import try_to_load_from_cache

        if isinstance(try_to_load_from_cache(source, "config.json"), str):
            return
        offline = next((name for name in HUB_OFFLINE if os.environ.get(name, "0") not in ("", "0")), None)
        if offline:
            raise UserError(f"{source} is not on this machine, and {offline} is set. Fetch it first.")
        self.plan.note(f"{source} is fetched from the Hub when the run begins.")

    def adapter(self, folder: str | Path | None) -> None:
        if folder is not None and Path(folder) not in self.gone and _here("torch"):
            with self.plan.trying():
                from deepmmsearch.policies.local.adapter import check_adapter

                check_adapter(folder)

    def policy(self, settings: PolicySettings | PlayerPolicySettings) -> Policy:
        """Who plays, or what stands for it."""
        if isinstance(settings, LocalPolicySettings):
            source = str(settings.model or BUNDLED)
            self.adapter(settings.adapter)
            return StandIn(source, self.checkpoint(source))
        if isinstance(settings, ChatPolicySettings):
            self.endpoint(settings)
            return StandIn(settings.model or "the endpoint's model", endpoint_card(settings.model))
        return StandIn(settings.kind, AgentCard())

    def tempo(self, settings: PolicySettings | PlayerPolicySettings) -> Tempo:
        if isinstance(settings, EndpointSettings):
            return Tempo(endpoint=public_address(settings.base_url or "api.openai.com"))
        if isinstance(settings, LocalPolicySettings):
            return Tempo(parameters=self.parameters(str(settings.model or BUNDLED)))
        return Tempo()

    def endpoint(self, settings: EndpointSettings) -> None:
        with self.plan.trying():
            model = chat_model(settings)
            if self.network:
                asyncio.run(check_endpoint(model))

    def judge(self, settings: JudgeSettings) -> None:
        if isinstance(settings, LlmJudgeSettings):
            self.endpoint(settings)
            settings = settings.model_copy(update={"recorder": LiveSettings()})
        with self.plan.trying():
            build_judge(settings)

    # Questions

    def questions(
        self,
        name: str,
        path: Path | None = None,
        images: Path | None = None,
        split: str | None = None,
        sample: int | None = None,
    ) -> float:
        """How many a benchmark or a file asks, at most `sample` (0: all; None: as many as the paper); what is here is
        opened."""
        from deepmmsearch.data.published import find_benchmark, open_questions

        count: float | None = None
        about: float = UNKNOWN_QUESTIONS
        with self.plan.trying():
            known = find_benchmark(name)
            if known is not None and split in (None, known.splits[0]):
                about = BENCHMARKS.get(name, about)
            sample = known.sample if known is not None and sample is None else sample
            if not {path, Path(name)} & self.gone and (path is not None or known is None or known.hub is None):
                # without a path this says where to get it
                count = len(open_questions(name, path=path, images=images, split=split, sample=0).rows)
            elif known is not None and known.hub is not None and path is None:
                if split not in (None, *known.splits):
                    raise UserError(f"{name} has no split {split!r}. It has: {', '.join(known.splits)}.")
                if self.plan.has("Data sets from the Hub", "data"):
                    self.plan.note(f"{known.title} is fetched from the Hub ({known.hub.repository}).")
        if count is None and sample:
            return sample
        if count is None:
            count = about
            self.plan.assumed.add(f"{Path(name).name} holds about {count:,.0f} questions, which were not counted.")
        return min(count, sample) if sample else count

    # Tools

    def engine(self) -> bool:
        return self.plan.has("Searching an index", "engine")

    def tools(self, settings: ToolSettings, policy: Policy) -> ToolSettings:
        """Every tool by itself, so that one that is missing hides no other. Gives the settings without the providers
        that are left out here."""
        if isinstance(settings, NoToolSettings) or isinstance(settings.recorder, ReplaySettings):
            return settings  # a replay needs its file, which is an input, and nothing else
        live = settings.model_copy(update={"recorder": LiveSettings()})
        made = Assembly(live, os.environ)
        before = len(self.plan.missing)
        left_out = self._searches(live, made)
        for part in self._parts(live, made, policy):
            with self.plan.trying():
                part()
        if self.network and len(self.plan.missing) == before:
            with self.plan.trying():
                asyncio.run(try_tools(made.toolbox(policy)))
        if not isinstance(settings, ProviderToolSettings):
            return settings
        kept = {kind: tuple(p for p in getattr(settings, kind) if p not in left_out) for kind in ("text", "image")}
        return settings.model_copy(update=kept)

    def _searches(self, settings: LocalToolSettings | ProviderToolSettings, made: Assembly) -> list[ProviderSettings]:
        """Every provider; gives those that are left out."""
        texts: Sequence[ProviderSettings] = (ProviderSettings(name="local"),)
        images, left_out = texts, []
        if isinstance(settings, ProviderToolSettings):
            texts, images = settings.text, settings.image
        elif settings.index is None:
            self.plan.lacks("Local tools need an index. Build one with: deepmmsearch index build FOLDER")
        if settings.index in self.gone or (settings.kind == "local" and settings.index is None):
            return []
        for kind, listed in (("text", texts), ("image", images)):
            for provider in listed:
                try:
                    made.searches.provider(kind, provider)  # type: ignore[arg-type]
                except UserError as error:
                    if provider.optional and isinstance(error, MissingKey | MissingExtra):
                        self.plan.note(f"Left out: {error}")
                        left_out.append(provider)
                    else:
                        self.plan.lacks(error)
        if len(left_out) == len(texts) + len(images):
            self.plan.lacks("None of the search providers can be used.")
        return left_out

    def _parts(
        self, settings: LocalToolSettings | ProviderToolSettings, made: Assembly, policy: Policy
    ) -> Iterator[Callable[[], Any]]:
        yield made.check_prices
        if settings.reader.kind != "none" and settings.index not in self.gone:
            yield made.new_reader
        yield made.extra_tools
        yield lambda: made.ocr(policy, None)
        yield lambda: made.interpreter(None)
        for server in settings.mcp:
            yield partial(tool_server, server, made.searches.client, made.environ)
        grounding, summarizer, matcher = settings.grounding, settings.summarizer, settings.matcher
        if isinstance(grounding, DinoGroundingSettings):
            yield lambda: self._neural("Grounding DINO", grounding.model)
        elif isinstance(grounding, ChatGroundingSettings):
            yield lambda: self.endpoint(grounding)
        elif grounding.kind == "own":
            yield lambda: find_grounder(policy, grounding.dialect)
        if isinstance(summarizer, ChatSummarizerSettings):
            yield lambda: self.endpoint(summarizer)
        elif isinstance(summarizer, OwnSummarizerSettings):
            yield lambda: own_summarizer(policy)
        if getattr(summarizer, "encoder", None):
            yield lambda: self._present("Ranking sentences", "dense", "sentence_transformers")
        if isinstance(matcher, PictureMatcherSettings):
            yield lambda: self._present("Matching hits by their pictures", "engine", "cv2")
        elif isinstance(matcher, EncoderMatcherSettings):
            yield lambda: self._neural("A neural image encoder", matcher.model)
        elif (
            isinstance(matcher, AutoMatcherSettings) and isinstance(settings, ProviderToolSettings) and not _here("cv2")
        ):
            self.plan.note("Hits are matched by their rank: their pictures need the extra 'engine'.")

    def _present(self, feature: str, extra: str, module: str) -> None:
        if not _here(module):
            raise MissingExtra(feature, extra)

    def _neural(self, feature: str, model: str | None) -> None:
        self._present(feature, "local", "transformers")
        if model is not None and Path(model) not in self.gone and not is_path(model):
            self._on_the_hub(model)


def _here(module: str) -> bool:
    return find_spec(module) is not None


def gigabytes(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e8 else f"{count / 1e6:,.1f} MB"
