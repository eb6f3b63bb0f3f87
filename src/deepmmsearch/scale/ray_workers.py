"""Ray's workers for an evaluation in parts. Ray starts its own processes; what is started here with `local` gets the
environment of a child of ours: named variables, and of keys those that the recipe names."""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import chdir
from dataclasses import astuple
from pathlib import Path
from typing import Any, Self

from deepmmsearch.children import Child, ParentPipe
from deepmmsearch.compose.eval_recipe import EvalRecipe
from deepmmsearch.compose.keys import keys_of
from deepmmsearch.errors import Failed, UserError, need
from deepmmsearch.eval.run import EvalRun
from deepmmsearch.progress import Step, Watch, silent
from deepmmsearch.scale.eval_parts import PartJob, PartPlayed, play_on_workers

LOCAL = "local"


def play_on_ray(
    recipe: EvalRecipe,
    address: str,
    workers: int,
    only: Sequence[str] = (),
    benchmarks: Sequence[str] = (),
    *,
    gpus: float = 0,
    retry_errors: bool = False,
    watch: Watch = silent,
) -> EvalRun:
    """`address`: of a cluster that runs, such as 10.0.0.1:6379, or "local" for one of this machine that ends with the
    run. `gpus`: of each worker. Otherwise as `play_on_workers`; raises MissingExtra, UserError for what is not an
    address, Failed where nothing answers."""
    need("An evaluation on Ray", "ray")
    if address != LOCAL:
        _reach(address)
    keys = tuple(sorted(set(keys_of(recipe))))
    # how a cluster is reached, and the token that it wants
    of_ray = () if address == LOCAL else tuple(name for name in os.environ if name.startswith("RAY_"))
    asked = (recipe, address, workers, tuple(only), tuple(benchmarks), gpus, retry_errors, keys)
    with Child(_drive, *asked, keys=(*keys, *of_ray)) as driver:
        while isinstance(news := driver.receive(), list):
            watch(Step(*news) if len(news) > 1 else news[0])
    return EvalRun(recipe.output)


def _reach(address: str) -> None:
    """Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal() and int(port) < 2**16):
        raise UserError(f"{address!r} is not an address of a Ray cluster. Give one such as 10.0.0.1:6379, or local.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise Failed(f"No Ray cluster answers at {address} ({error}). Check the address, or start one there.") from None


class RayWorkers:
    """Each job is a task with a CPU and `gpus` of its own, wherever the cluster has them."""

    def __init__(self, address: str, workers: int, gpus: float) -> None:
        # it would report its use to its makers
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        if address == LOCAL:
            # Ray's name for a switch that keeps it on this machine's own address, on any system; and whoever reaches it
            # runs code, so other users of the machine need a token, which is in no file
            own = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}
            os.environ.update(own, RAY_AUTH_TOKEN=secrets.token_hex(32))
        import ray

        errors = ray.exceptions
        self.lost: tuple[type[BaseException], ...] = (
            errors.WorkerCrashedError,
            errors.NodeDiedError,
            errors.OutOfMemoryError,
            errors.ObjectLostError,
        )
        given: dict[str, Any] = {"address": address}
        if address == LOCAL:
            given |= {"num_cpus": workers, "include_dashboard": False}
        try:
            # Ray's workers import from the folder in which it is started
            with chdir(Path.cwd().anchor):
                ray.init(**given, log_to_driver=False, logging_level="error")
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise Failed(
                f"Ray at {address} cannot be used ({type(error).__name__}: {error}). Give the address of a cluster "
                "that runs, such as 10.0.0.1:6379, or local."
            ) from None
        self._ray = ray
        self._play = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(_play)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ray.shutdown()

    def submit(self, job: PartJob) -> Future[PartPlayed]:
        future: Future[PartPlayed] = self._play.remote(job).future()
        return future


def _play(job: PartJob) -> PartPlayed:
    return job.play()


def _drive(
    line: ParentPipe,
    recipe: EvalRecipe,
    address: str,
    workers: int,
    only: Sequence[str],
    benchmarks: Sequence[str],
    gpus: float,
    retry_errors: bool,
    keys: Sequence[str],
) -> None:
    def tell(said: str | Step) -> None:
        line.send(json.dumps(astuple(said) if isinstance(said, Step) else [said]).encode())

    with RayWorkers(address, workers, gpus) as ready:
        play_on_workers(recipe, ready, workers, only, benchmarks, retry_errors=retry_errors, keys=keys, watch=tell)
