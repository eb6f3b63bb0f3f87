"""Runs in verl's environment: reads a Parquet file as its trainer does, and prints what it sees of each row as JSON.

python verl_child.py FILE TOKENIZER
"""

from __future__ import annotations

import json
import sys

from omegaconf import OmegaConf
from transformers import AutoTokenizer
from verl.utils.dataset.rl_dataset import RLHFDataset


def main(file: str, tokenizer: str) -> None:
    tokens = AutoTokenizer.from_pretrained(tokenizer)
    # pictures are put into the messages only where there is a processor; none of its work is asked for here
    config = OmegaConf.create({"filter_overlong_prompts": False, "max_prompt_length": 100_000})
    rows = RLHFDataset([file], tokens, config, processor=object())  # type: ignore[arg-type]
    for number in range(len(rows)):
        row = rows[number]
        pictures = [p["image"].size for m in row["raw_prompt"] for p in _parts(m) if p["type"] == "image"]
        rendered = tokens.apply_chat_template(row["raw_prompt"], add_generation_prompt=True, tokenize=False)
        told = {name: row[name] for name in ("data_source", "reward_model", "extra_info", "index")}
        print("ROW " + json.dumps({"pictures": pictures, "rendered": rendered, **told}))


def _parts(message: dict) -> list:  # type: ignore[type-arg]
    return message["content"] if isinstance(message["content"], list) else []


main(*sys.argv[1:])
