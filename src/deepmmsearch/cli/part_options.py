"""Options of commands whose work can be shared out: `--part`, or `--ray` with its workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from deepmmsearch.errors import UserError, need

if TYPE_CHECKING:
    from deepmmsearch.outputs import RunPart
    from deepmmsearch.scale.ray_workers import Cluster

WORKERS = 4


class PartType(click.ParamType):
    """3/8: the third of eight parts."""

    name = "part"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from deepmmsearch.outputs import RunPart

        if isinstance(value, RunPart):
            return value
        number, slash, of = value.partition("/")
        if not (slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
            self.fail(f"{value!r} is not a part. Give one such as 3/8, the third of eight.", param, ctx)
        return RunPart(int(number), int(of))


def part_options(call: Any) -> Any:
    for option in (
        click.option("--worker-gpus", type=click.FloatRange(min=0), help="GPUs of each of them.  [default: 0]"),
        click.option(
            "--workers", type=click.IntRange(min=1), help=f"How many with --ray work at once.  [default: {WORKERS}]"
        ),
        click.option("--ray", "address", metavar="ADDRESS", help="Work on a Ray cluster: its address, or local."),
        click.option("--part", type=PartType(), metavar="I/N", help="Do the Ith of N parts, into a folder of its own."),
    ):
        call = option(call)
    return call


def cluster_of(
    part: RunPart | None, address: str | None, workers: int | None, worker_gpus: float | None
) -> Cluster | None:
    """None where the work is done here. Raises UserError for options that do not go together, MissingExtra."""
    if address is None:
        if workers or worker_gpus:
            raise UserError(
                "--workers and --worker-gpus belong to --ray. Give --ray local, or the address of a cluster."
            )
        return None
    if part is not None:
        raise UserError("--ray makes parts itself. Give --ray or --part.")
    need("Working on Ray", "ray")
    from deepmmsearch.scale.ray_workers import Cluster

    return Cluster(address, workers or WORKERS, worker_gpus or 0)
