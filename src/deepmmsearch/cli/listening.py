"""What commands that listen have in common."""

from __future__ import annotations

import click

allow_host_option = click.option(
    "--allow-host",
    "allowed",
    multiple=True,
    metavar="NAME",
    help="A further name under which the server may be called, such as a proxy's; may be given several times.",
)
