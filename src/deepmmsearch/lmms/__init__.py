"""Our agent as a model of lmms-eval (EvolvingLMMs-Lab, API of version 0.7): found through its entry points.

    python -m lmms_eval --model deepmmsearch --model_args recipe=agent.yaml --tasks okvqa_val2014_lite

Nothing here imports lmms-eval until it asks for the model.
"""

from __future__ import annotations

from typing import Any


def manifest() -> Any:
    """What lmms-eval's registry loads from the entry-point group `lmms_eval.models`."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="deepmmsearch", simple_class_path="deepmmsearch.lmms.model.DeepMMSearch")
