"""Ray's workers for a run in parts. Ray starts its own processes; what is started here with `local` gets the
environment of a child of ours: named variables, and of keys those that the recipe names."""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import chdir
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Self

from deepmmsearch.children import Child, ParentPipe
from deepmmsearch.compose.data_build import DataRecipe
from deepmmsearch.compose.eval_recipe import EvalRecipe
from deepmmsearch.compose.keys import keys_of
from deepmmsearch.compose.local_inputs import storage_keys
from deepmmsearch.data.dataset import Built
from deepmmsearch.data.recipe import DATASET
from deepmmsearch.errors import Failed, UserError, need
from deepmmsearch.eval.run import EvalRun
from deepmmsearch.progress import Step, Watch, silent
from deepmmsearch.scale.build_jobs import build_on_workers
from deepmmsearch.scale.eval_parts import play_on_workers
from deepmmsearch.scale.part_workers import PartJob, PartPlayed, PartWorkers
from deepmmsearch.settings import Recipe

LOCAL = "local"


@dataclass(frozen=True)
class Cluster:
    """`address`: of one that runs, such as 10.0.0.1:6379, or "local" for one of this machine that ends with the run.
    So many `workers`, each with `gpus`."""

    address: str
    workers: int
    gpus: float = 0


def play_on_ray(
    recipe: EvalRecipe,
    cluster: Cluster,
    only: Sequence[str] = (),
    benchmarks: Sequence[str] = (),
    *,
    retry_errors: bool = False,
    watch: Watch = silent,
) -> EvalRun:
    """An evaluation, as `play_on_workers`. Raises also MissingExtra, UserError for what is not an address, Failed where
    nothing answers."""
    _on_ray(cluster, _play_all, recipe, tuple(only), tuple(benchmarks), retry_errors, watch=watch)
    return EvalRun(recipe.output)


def build_on_ray(recipe: DataRecipe, cluster: Cluster, *, retry_errors: bool = False, watch: Watch = silent) -> Built:
    """A data build, as `build_on_workers`; raises also what `play_on_ray` does."""
    _on_ray(cluster, _build_all, recipe, retry_errors, watch=watch)
    return Built.read(recipe.output / DATASET)


def _on_ray(cluster: Cluster, play: Callable[..., object], recipe: Recipe, *asked: Any, watch: Watch) -> None:
    """`play` in a child process that drives the cluster."""
    need("Working on Ray", "ray")
    if cluster.address != LOCAL:
        _reach(cluster.address)
    keys = tuple(sorted({*keys_of(recipe), *storage_keys(recipe)}))
    # how a cluster is reached, and the token that it wants
    of_ray = () if cluster.address == LOCAL else tuple(name for name in os.environ if name.startswith("RAY_"))
    with Child(_drive, cluster, keys, play, (recipe, *asked), keys=(*keys, *of_ray)) as driver:
        while isinstance(news := driver.receive(), list):
            watch(Step(*news) if len(news) > 1 else news[0])


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

    def __init__(self, cluster: Cluster) -> None:
        address = cluster.address
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
            given |= {"num_cpus": cluster.workers, "include_dashboard": False}
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
        self._play = ray.remote(num_cpus=1, num_gpus=cluster.gpus, max_retries=0)(_play)

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
    line: ParentPipe, cluster: Cluster, keys: Sequence[str], play: Callable[..., object], asked: Sequence[Any]
) -> None:
    def tell(said: str | Step) -> None:
        line.send(json.dumps(astuple(said) if isinstance(said, Step) else [said]).encode())

    with RayWorkers(cluster) as ready:
        play(ready, cluster.workers, keys, tell, *asked)


def _play_all(
    workers: PartWorkers,
    count: int,
    keys: Sequence[str],
    watch: Watch,
    recipe: EvalRecipe,
    only: Sequence[str],
    benchmarks: Sequence[str],
    retry_errors: bool,
) -> None:
    play_on_workers(recipe, workers, count, only, benchmarks, retry_errors=retry_errors, keys=keys, watch=watch)


def _build_all(
    workers: PartWorkers, count: int, keys: Sequence[str], watch: Watch, recipe: DataRecipe, retry_errors: bool
) -> None:
    build_on_workers(recipe, workers, count, retry_errors=retry_errors, keys=keys, watch=watch)
