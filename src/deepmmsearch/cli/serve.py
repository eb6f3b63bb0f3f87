"""`deepmmsearch serve`: a page to ask in, an OpenAI-compatible model and an MCP server, from one process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from deepmmsearch.cli.bars import Bars
from deepmmsearch.cli.listening import allow_host_option
from deepmmsearch.errors import need
from deepmmsearch.streams import echo

if TYPE_CHECKING:
    from deepmmsearch.compose.serving import ServeRecipe

DEMO = Path("serve-demo")
SEED, QUESTIONS = 1, 40


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path), required=False)
@click.argument("overrides", nargs=-1)
@click.option("--host", metavar="ADDRESS", help="The address to listen on.  [default: the recipe's, or 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="The port; 0 picks a free one.  [default: 8400]")
@allow_host_option
@click.option("--insecure", is_flag=True, help="Let everybody who reaches the address ask, without a key.")
def command(
    recipe: Path | None,
    overrides: tuple[str, ...],
    host: str | None,
    port: int | None,
    allowed: tuple[str, ...],
    insecure: bool,
) -> None:
    """Serve a page to ask in (/), an OpenAI-compatible model (/v1) and an MCP server (/mcp), as RECIPE says.

    Without a RECIPE the bundled model answers about an invented world, which is made in ./serve-demo the first time;
    nothing is needed from the network. On any address but this machine's own, keys are needed (`deepmmsearch keys`).

    \b
    Example:  deepmmsearch serve
              deepmmsearch serve serve/ollama --port 9000
              deepmmsearch serve mine.yaml --host 0.0.0.0 --allow-host search.lan
    """
    from deepmmsearch.cli.recipe_file import open_recipe
    from deepmmsearch.compose.serving import ServeRecipe

    need("The server", "serve")
    made = demo_recipe() if recipe is None else open_recipe(recipe, ServeRecipe, overrides)
    given = {"host": host, "port": port, "insecure": insecure or None}
    changed = {name: value for name, value in given.items() if value is not None}
    made = made.model_copy(update={**changed, "allow_hosts": (*made.allow_hosts, *allowed)})
    _serve(made)


def _serve(recipe: ServeRecipe) -> None:
    from deepmmsearch.serve.house import House
    from deepmmsearch.serve.running import listen, run

    # before the models are loaded, which takes long
    bound = listen(recipe.host, recipe.port)
    with Bars() as bars, bars.during("Getting ready"):
        house = House.load(recipe)
        house.open_histories()
    port = bound.getsockname()[1]
    called = f"[{recipe.host}]" if ":" in recipe.host else recipe.host

    def ready() -> None:
        echo(f"http://{called}:{port}/  serves {', '.join(house.models)}  (Ctrl-C ends it)")
        if recipe.insecure:
            echo(f"Note: whoever reaches {recipe.host} can ask, and see what others asked.", err=True)

    run(house, bound, ready)


def demo_recipe() -> ServeRecipe:
    """The bundled model and an invented world."""
    from deepmmsearch.atlas.worlds import keep_world
    from deepmmsearch.compose.serving import ServedModelSettings, ServeRecipe
    from deepmmsearch.compose.tool_settings import LocalToolSettings
    from deepmmsearch.outputs import Output

    need("The demo world", "local", "engine")
    output, made_with = Output(DEMO / "world", "serve"), {"seed": SEED, "questions": QUESTIONS}
    output.claim(made_with)
    with Bars() as bars:
        kept = keep_world(DEMO / "world", SEED, "eval", QUESTIONS, watch=bars)
    model = ServedModelSettings(
        tools=LocalToolSettings(index=kept.index),
        about="The bundled model. It knows one invented world, which its examples are about.",
        examples=kept.atlas,
    )
    return ServeRecipe(models={"atlas": model}, store=DEMO / "history")
