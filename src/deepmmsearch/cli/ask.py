"""`deepmmsearch ask`: one question about one picture, its turns shown as they happen."""

from __future__ import annotations

import asyncio
import sys
import uuid
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deepmmsearch.cli import defaults
from deepmmsearch.cli.entries import Entry
from deepmmsearch.console import Console
from deepmmsearch.errors import Failed, UnknownName, UserError
from deepmmsearch.index_place import Place
from deepmmsearch.streams import echo_json, guarded_streams

if TYPE_CHECKING:
    from deepmmsearch.agent.runner import AgentWorkflow
    from deepmmsearch.compose.policies import PolicySettings
    from deepmmsearch.compose.tool_settings import ToolSettings
    from deepmmsearch.types import Policy, Question, Trajectory

PLACE = click.Path(path_type=Path)
INVENTED_WORLDS = (
    "The bundled model knows invented worlds only (those of `deepmmsearch demo`). This picture is not from one, so its "
    "answer means nothing. For real pictures give --model CHECKPOINT or --base-url URL, or set your own default: "
    "deepmmsearch config set model CHECKPOINT"
)
NOTHING_TO_SEARCH = (
    "There is no index and no other tool, so the model answered without searching. For your own documents run "
    "`deepmmsearch index build FOLDER` and give --index; for the web give --tools FILE, with a provider that "
    "`deepmmsearch tools` lists."
)


@click.command()
@click.argument("image")
@click.argument("question")
@defaults.option(
    "index", "--index", type=defaults.PlaceType(), help="The index to search.  [default: ./index, if there is one]"
)
@defaults.option(
    "model", "--model", metavar="M", help="A checkpoint folder, a name on the Hub, or the endpoint's name for it."
)
@defaults.option(
    "base_url", "--base-url", metavar="URL", help="An OpenAI-compatible endpoint, such as http://127.0.0.1:8000/v1."
)
@defaults.option(
    "proxy",
    "--proxy",
    metavar="URL",
    help="Reach the endpoint through this proxy.  [default: none; those of the environment are not used]",
)
@click.option(
    "--policy",
    "kind",
    metavar="local|chat|human",
    help="Who answers: a model run here, an endpoint, or you.  [default: local, or chat with --base-url]",
)
@defaults.option(
    "tools",
    "--tools",
    metavar="none|local|FILE",
    help="What to search with: nothing, your index, or what FILE or a name such as tools/searxng says.  "
    "[default: local, if there is an index]",
)
@click.option("--prompt", metavar="SET", help="The prompt set, or a folder with one.  [default: the model's own]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the turns, for programs.")
@defaults.option(
    "save",
    "--save",
    metavar="DIR",
    type=PLACE,
    help="Keep the question, every turn and the crops in this folder, for `deepmmsearch show`.",
)
@defaults.option(
    "encoders",
    "--encoders",
    metavar="NAMES",
    callback=defaults.several,
    help="Models, separated by commas, that the index may load for its vectors besides the usual ones.",
)
@click.option(
    "--calls", type=click.IntRange(0, 100), help="At most this many tool calls.  [default: the dialect's, 10 or 3]"
)
@click.option(
    "--image-searches", type=click.IntRange(0, 100), help="At most this many searches with a picture.  [default: 1]"
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.1),
    default=120.0,
    show_default=True,
    help="Seconds for each request to an endpoint.",
)
def command(
    image: str,
    question: str,
    index: Place | None,
    model: str | None,
    base_url: str | None,
    proxy: str | None,
    kind: str | None,
    tools: str | None,
    prompt: str | None,
    as_json: bool,
    save: Path | None,
    encoders: tuple[str, ...],
    calls: int | None,
    image_searches: int | None,
    timeout: float,
) -> None:
    """Ask QUESTION about the picture IMAGE (a file or a web address). Shows each turn as it happens, then the answer
    with its sources. Exit code 1 if there is no answer. Set your own defaults with `deepmmsearch config`.

    \b
    Example:  deepmmsearch ask harbour.png "What is the capital of the country whose flag is on the ship?"
              deepmmsearch ask photo.jpg "Who built this?" --index my-index --save asked
              deepmmsearch ask photo.jpg "Who built this?" --tools tools/searxng
              deepmmsearch ask photo.jpg "What is this?" --base-url http://127.0.0.1:8000/v1 --json
    """
    from deepmmsearch.agent.dialect import find_dialect
    from deepmmsearch.agent.runner import AgentWorkflow
    from deepmmsearch.cli.recipe_file import tell_keys
    from deepmmsearch.compose.asking import read_question
    from deepmmsearch.compose.policies import build_policy, prompt_to_ask, translation
    from deepmmsearch.compose.toolbox import build_toolbox

    asked = asyncio.run(read_question(question, [image]))
    context = click.get_current_context()
    kind, model, base_url = defaults.chosen_model(context, kind, model, base_url)
    tools, index = defaults.chosen_tools(context, tools, index)
    if kind != "chat" and not defaults.given(context, "proxy"):
        proxy = None
    settings = _policy_settings(kind, model, base_url, timeout, proxy)
    tell_keys(settings)
    toolbox_settings = _tool_settings(tools, index, encoders)
    _refuse_bad_places(toolbox_settings, save)
    console = Console(quiet=as_json)
    with console.status("Getting ready ..."), guarded_streams():
        policy = build_policy(settings)
        toolbox = build_toolbox(toolbox_settings, policy)
    label = getattr(policy, "name", kind)
    chosen = prompt_to_ask(policy, toolbox, prompt)
    limits = find_dialect(chosen.dialect).limits
    limits = limits if calls is None else replace(limits, calls=calls)
    limits = limits if image_searches is None else replace(limits, image_searches=image_searches)
    spoken = translation(policy, toolbox, prompt)
    agent = AgentWorkflow(policy, chosen, lambda _: toolbox, limits, label, lenient=True, translate=spoken)
    played = asyncio.run(_play(console, agent, asked, save))
    entry = _entry(played, kind, policy, model)
    if save is not None and played.turns:
        _store(console, save, entry)
    if as_json:
        echo_json(entry.whole(save))
    if played.error is not None:
        raise Failed(played.error)
    # last, where they are seen beside the answer
    if kind == "local" and model is None and not _from_an_atlas(image):
        _note(INVENTED_WORLDS)
    if tools is None and toolbox_settings.kind == "none":
        _note(NOTHING_TO_SEARCH)
    if played.answer is None:
        sys.exit(1)


def _from_an_atlas(image: str) -> bool:
    from deepmmsearch.atlas.world_files import is_atlas_picture

    return not image.startswith(("https://", "http://")) and is_atlas_picture(Path(image))


def _note(text: str) -> None:
    Console(stderr=True).print(f"Note: {text}", style="yellow")


async def _play(console: Console, agent: AgentWorkflow, question: Question, save: Path | None) -> Trajectory:
    """The finished episode, shown turn by turn, its crops saved. What fails ends it, and what was played is kept.

    Raises UserError where the question does not fit, UnknownName for a model that the endpoint does not serve.
    """
    from deepmmsearch.agent.runner import guarded
    from deepmmsearch.policies.human import HELP, HumanPolicy
    from deepmmsearch.show import terminal

    last = replace(agent.blank, question=question)
    with console.status("Thinking ...") as status, guarded_streams():
        if isinstance(agent.policy, HumanPolicy):
            status.stop()
            console.print(HELP, style="dim")
        async for grown in guarded(agent, question, fatal=(UnknownName,)):
            if len(grown.turns) > len(last.turns):
                _refuse_full_window(grown)
                _show(console, grown, save)
            last = grown
    if last.turns:
        terminal.show_end(console, last)
    return last


def _show(console: Console, trajectory: Trajectory, save: Path | None) -> None:
    from deepmmsearch.show import terminal
    from deepmmsearch.store import TrajectoryStore

    crop = terminal.crop_path(trajectory.turns[-1], save)
    seen = trajectory.turns[-1].observation
    if save is not None and seen is not None and seen.crop is not None:
        TrajectoryStore(save).save_picture(seen.crop)
    terminal.show_turn(console, trajectory, crop)


def _entry(played: Trajectory, kind: str, policy: Policy, model: str | None) -> Entry:
    """Asking again is a new entry, so its id is new too."""
    from deepmmsearch.policies.chat import ChatPolicy

    name, endpoint = model or ("bundled" if kind == "local" else kind), None
    if isinstance(policy, ChatPolicy):
        # the endpoint's only model has told its name by now
        name, endpoint = policy.model or "", policy.base_url
    date = datetime.now().astimezone().isoformat(timespec="seconds")
    return Entry(uuid.uuid4().hex[:12], played, date, name, endpoint)


def _store(console: Console, folder: Path, entry: Entry) -> None:
    from deepmmsearch.store import TrajectoryStore

    TrajectoryStore(folder).append(entry.trajectory, entry.id, entry.about)
    console.print(f"Saved. See it again with: deepmmsearch show {folder} {entry.id}", style="dim")


def _tool_settings(tools: str | None, index: Place | None, encoders: tuple[str, ...]) -> ToolSettings:
    """What --tools and --index say: a kind, a file, or the local index where there is one."""
    from deepmmsearch.cli.recipe_file import open_recipe
    from deepmmsearch.compose.tool_settings import LocalToolSettings, NoToolSettings, SearchSettings, ToolSettings

    if tools == "none" or (tools is None and index is None):
        return NoToolSettings()
    if tools in (None, "local"):
        return LocalToolSettings(index=index, encoders=encoders)
    if "/" not in tools and not tools.endswith((".yaml", ".yml")) and not Path(tools).is_file():
        raise UnknownName("tools", tools, ("none", "local", "FILE.yaml", "tools/NAME"))
    settings: ToolSettings = open_recipe(Path(tools), ToolSettings, () if index is None else [f"index={index}"])
    if isinstance(settings, SearchSettings):
        settings.encoders = (*settings.encoders, *encoders)
    return settings


def _policy_settings(
    kind: str, model: str | None, base_url: str | None, timeout: float, proxy: str | None
) -> PolicySettings:
    """Raises UserError for what does not apply to the kind, UnknownName for another kind."""
    from deepmmsearch.compose.policies import PolicySettings
    from deepmmsearch.compose.recipe import read_settings

    given = {"model": model, "base_url": base_url, "proxy": proxy, "timeout": timeout if kind == "chat" else None}
    row = {"kind": kind, **{name: value for name, value in given.items() if value is not None}}
    return read_settings(row, PolicySettings, "the command line")


def _refuse_bad_places(tools: ToolSettings, save: Path | None) -> None:
    """Before a model is loaded, which takes long."""
    # a replay asks no index
    if tools.kind == "local" and tools.recorder.mode != "replay":
        if tools.index is None:
            raise UserError("--tools local needs an index. Build one with: deepmmsearch index build FOLDER")
        from deepmmsearch.engine import Index

        Index.open(tools.index, tools.encoders).check_encoders()
    if save is not None and save.exists() and not save.is_dir():
        raise UserError(f"{save} is a file. Give a folder to --save.")


def _refuse_full_window(trajectory: Trajectory) -> None:
    first = trajectory.turns[0].completion
    if len(trajectory.turns) == 1 and first.finish == "context" and not first.text:
        needed = f" ({first.prompt_tokens} tokens with the picture)" if first.prompt_tokens else ""
        raise UserError(f"The question does not fit into the model's window{needed}. Shorten it.")
