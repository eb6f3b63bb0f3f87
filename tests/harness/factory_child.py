"""Runs in LLaMA-Factory's environment: reads a data set as its fine-tuning does, with pictures and labels, and prints
what it sees of each row as JSON.

    python factory_child.py FOLDER NAME MODEL
"""

from __future__ import annotations

import json
import sys

from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
from llamafactory.hparams import get_train_args
from llamafactory.model import load_tokenizer


def main(folder: str, name: str, model: str, output: str) -> None:
    given = {
        "stage": "sft",
        "do_train": True,
        "model_name_or_path": model,
        "dataset": name,
        "dataset_dir": folder,
        "template": "qwen2_vl",
        "finetuning_type": "lora",
        "cutoff_len": 100_000,
        "output_dir": output,
        "use_cpu": True,
        "bf16": False,
        "overwrite_cache": True,
        "report_to": "none",
    }
    model_args, data_args, training_args, finetuning_args, _ = get_train_args(given)
    loaded = load_tokenizer(model_args)
    tokenizer = loaded["tokenizer"]
    template = get_template_and_fix_tokenizer(tokenizer, data_args)
    found = get_dataset(template, model_args, data_args, training_args, finetuning_args.stage, **loaded)
    for row in found["train_dataset"]:
        taught = [i for i in row["labels"] if i != -100]
        print(
            "ROW "
            + json.dumps(
                {
                    "pictures": len(row["images"] or []),
                    "placeholders": tokenizer.decode(row["input_ids"]).count("<|vision_start|>"),
                    "taught": tokenizer.decode(taught),
                    "text": tokenizer.decode(row["input_ids"]),
                }
            )
        )


main(*sys.argv[1:])
