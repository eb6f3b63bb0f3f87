"""verl's own worker in this process, over a sampler that says what it is told: pictures in mid-conversation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("verl", reason="make test-verl runs this in verl's environment")

import yaml
from hydra import compose, initialize_config_dir
from verl import DataProto
from verl.experimental.agent_loop.agent_loop import AgentLoopWorker
from verl.utils import hf_processor, hf_tokenizer
from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn
from verl.workers.rollout.replica import TokenOutput

from deepmmsearch.atlas.worlds import Worlds
from deepmmsearch.bundled import BUNDLED
from deepmmsearch.data.convert import write_verl

pytestmark = pytest.mark.verl

RECIPES = Path(__file__).parent.parent.parent / "recipes" / "verl"


class Scripted:
    """Searches with the picture, then answers."""

    def __init__(self) -> None:
        self.tokenizer = hf_tokenizer(str(BUNDLED))
        self.asked: list[tuple[list[int], int]] = []

    async def generate(self, request_id: str, **asked: Any) -> TokenOutput:
        pictures = asked["image_data"] or []
        self.asked.append((asked["prompt_ids"], len(pictures)))
        text = "<answer> veld </answer>" if len(pictures) > 1 else "<img_search> <img> </img_search>"
        ids = self.tokenizer.encode(f"<reason> look </reason> {text}", add_special_tokens=False)
        ids.append(self.tokenizer.convert_tokens_to_ids("<|im_end|>"))
        return TokenOutput(token_ids=ids, log_probs=[-0.5] * len(ids), stop_reason="completed")


async def test_pictures_that_a_tool_shows_are_in_the_row(tmp_path: Path) -> None:
    worlds = Worlds(tmp_path / "worlds", [3000], 4)
    pictured = [question for question in (worlds[i] for i in range(4)) if question.images]
    write_verl(pictured, tmp_path / "questions.parquet")
    tools = {"index": str(worlds.index(worlds.worlds[0])), "grounding": "none", "thumbnails": True, "image_hits": 2}
    recipe = {"episodes": {"max_new_tokens": 64}, "tools": tools, "judge": {"rule": "exact"}}
    (tmp_path / "episodes.yaml").write_text(yaml.safe_dump(recipe))
    with initialize_config_dir(str(RECIPES), version_base=None):
        config = compose(
            "sync_4x8",
            [
                f"actor_rollout_ref.model.path={BUNDLED}",
                f"data.episodes={tmp_path / 'episodes.yaml'}",
                "data.max_prompt_length=256",
                "data.max_response_length=1024",
                f"actor_rollout_ref.rollout.agent.agent_loop_config_path={RECIPES / 'agent_loop.yaml'}",
            ],
        )
    client = Scripted()
    worker = AgentLoopWorker(config, client)
    file = [str(tmp_path / "questions.parquet")]
    dataset = RLHFDataset(file, hf_tokenizer(str(BUNDLED)), config.data, hf_processor(str(BUNDLED)))
    batch = DataProto.from_single_dict(collate_fn([dataset[i] for i in range(len(pictured))]))
    batch.meta_info = {"global_steps": 1, "validate": False}
    played = await worker.generate_sequences(batch)
    image, shown = worker.processor.image_token_id, 0
    for i in range(len(played)):
        seen = played.batch["attention_mask"][i].bool()
        ids = played.batch["input_ids"][i][seen]
        grids = played.non_tensor_batch["multi_modal_inputs"][i]["image_grid_thw"]
        assert int((ids == image).sum()) == int(grids.prod(-1).sum()) // 4
        own, _ = worker.processor.get_rope_index(
            input_ids=ids[None], image_grid_thw=grids, mm_token_type_ids=(ids == image).int()[None]
        )
        assert (own[:, 0] == played.batch["position_ids"][i][1:, seen]).all()
        last = [asked for asked, count in client.asked if count == len(grids) and asked == ids.tolist()[: len(asked)]]
        assert last, "the row does not go on from what the sampler was asked"
        shown += len(grids) > 1
    assert shown == len(pictured)
