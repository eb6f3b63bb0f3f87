"""`deepmmsearch mcp`: the MCP server over standard input and output, for a host on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from deepmmsearch.errors import need
from deepmmsearch.streams import output_for_a_program


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path), required=False)
@click.argument("overrides", nargs=-1)
def command(recipe: Path | None, overrides: tuple[str, ...]) -> None:
    """Speak MCP over standard input and output, as hosts start it: tools to answer questions about pictures, to search
    with a picture or words, to find things in a picture and to read pages.

    RECIPE is one of a server; without it the bundled model answers about an invented world. Pictures may be named by
    their path.

    \b
    Example:  deepmmsearch mcp serve/searxng
              deepmmsearch mcp mine.yaml store=~/asked
    """
    from deepmmsearch.cli.recipe_file import open_recipe
    from deepmmsearch.cli.serve import demo_recipe
    from deepmmsearch.compose.serving import ServeRecipe

    need("The MCP server", "serve")
    made = demo_recipe() if recipe is None else open_recipe(recipe, ServeRecipe, overrides)
    from deepmmsearch.serve.house import House
    from deepmmsearch.serve.mcp_door import make_mcp

    # whoever starts the process may ask
    house = House.load(made.model_copy(update={"insecure": True, "keys": None}))
    try:
        with output_for_a_program():
            make_mcp(house, stdio=True).run()
    finally:
        house.histories.close()
