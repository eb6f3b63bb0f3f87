"""Which settings of a recipe can change a result: each was decided, and a new one has to be."""

from __future__ import annotations

from dataclasses import fields
from typing import get_args

import pytest
from pydantic import BaseModel

from deepmmsearch.bundled.pretrain_recipe import PretrainRecipe
from deepmmsearch.compose.data_build import DataRecipe
from deepmmsearch.compose.eval_recipe import EvalRecipe
from deepmmsearch.compose.training_recipes import AnyExperiment, FineTuning
from deepmmsearch.settings import decisive
from test_settings import parts

# By model of a recipe: what can change a result, and what cannot (there annotated `Aside`). Paths of questions, data
# and worlds are aside because their content counts instead.
SEARCH = (
    "index extra mcp summarizer grounding matcher network recorder budget prices text_hits image_hits image_lines "
    "min_passage pages crop_padding thumbnails"
)
GRPO = "model adapter lora seed dtype save_dtype prompt limits rollouts trl judge reward"
DECIDED = {
    "AgainstAtlas": ("count seed benchmark", ""),
    "AgainstTable": ("count seed benchmark path split", "images"),
    "AgentSettings": (
        "fault limits crop image_search text_searches without policy prompt kind thumbnails",
        "ablates change replicates",
    ),
    "Alarms": ("kl tokens reward patience", ""),
    "AtlasBenchmarkSettings": ("sample limit seed name split language asked_in kinds", "label out_of_domain"),
    "AtlasExperiment": (
        f"{GRPO} atlas",
        "output threads alarms evaluate_every check_frozen_every sample_every needs",
    ),
    "AtlasSeeds": ("seed worlds questions world_split", ""),
    "AtlasSettings": ("seed worlds questions search_share evaluate_seed evaluate", "folder"),
    "AutoMatcherSettings": ("kind ranks", ""),
    "Balance": ("size taxonomy search_share seed variants", ""),
    "BudgetSettings": ("question_calls question_money run_calls run_money", ""),
    "CacheSettings": ("mode cassette ttl", ""),
    "ChatGroundingSettings": (
        "model base_url extra_body reasoning_effort stop temperature "
        "min_pixels max_pixels max_new_tokens timeout box_threshold kind dialect",
        "key_variable proxy redirects",
    ),
    "ChatPolicySettings": (
        "model base_url extra_body reasoning_effort stop min_pixels "
        "max_pixels max_new_tokens timeout kind lossless fold temperature seed",
        "key_variable proxy redirects",
    ),
    "ChatSummarizerSettings": (
        "model base_url extra_body reasoning_effort stop temperature "
        "max_new_tokens timeout sentences encoder kind per_page",
        "key_variable proxy redirects",
    ),
    "DataExperiment": (
        f"{GRPO} tools",
        "output threads alarms evaluate_every check_frozen_every sample_every data needs",
    ),
    "DataRecipe": (
        "seeds pictures episodes taxonomy search unique balance splits teacher judge rollout_policy",
        "name licence output processes tries needs",
    ),
    "DinoGroundingSettings": ("box_threshold kind model text_threshold", "device"),
    "DirectSettings": ("policy prompt kind limits", "ablates change replicates"),
    "EncoderMatcherSettings": ("kind model threshold ranks", ""),
    "Episodes": ("turns limits", "concurrency attempts"),
    "EvalRecipe": (
        "policies tools benchmarks workflows judges timeout",
        "output concurrency stop_after_errors pictures worlds needs",
    ),
    "ExtraToolSettings": ("name", ""),
    "ExtractiveSummarizerSettings": ("sentences encoder kind", ""),
    "FineTuning": (
        "model sample lora freeze seed max_tokens dtype save_dtype cache_features trl evaluate_on",
        "data images output threads evaluate_every needs",
    ),
    "HeldOut": ("seed questions limits prompt max_new_tokens", "folder"),
    "HumanPolicySettings": ("kind", ""),
    "KnownTaxonomy": ("categories other by field mapping", "concurrency"),
    "LessonStageSettings": ("steps batch muon_lr adam_lr warmup decay_from workers lessons", ""),
    "LimitSettings": ("calls image_searches tokens told", ""),
    "LiveSettings": ("mode", ""),
    "LlmJudgeSettings": (
        "model base_url extra_body reasoning_effort stop temperature max_new_tokens timeout kind prompt bem",
        "key_variable proxy redirects recorder",
    ),
    "LocalPolicySettings": ("kind model adapter dtype max_new_tokens temperature seed", "device"),
    "LocalReaderSettings": ("kind", ""),
    "LocalToolSettings": (
        f"{SEARCH} kind reader",
        "needs encoders",
    ),
    "Lora": ("r alpha dropout targets", ""),
    "Mix": ("size taxonomy search_share seed", ""),
    "ModelTaxonomy": (
        "model base_url extra_body reasoning_effort stop temperature max_new_tokens timeout categories other by prompt",
        "key_variable proxy redirects concurrency",
    ),
    "McpServerSettings": ("name tools command url limit timeout", "variables key_variable key_header"),
    "NamedBenchmarkSettings": ("sample seed name split limit", "label out_of_domain path images"),
    "NetworkSettings": ("allow_hosts block_hosts allow_private timeout max_bytes", ""),
    "NoGroundingSettings": ("kind", ""),
    "NoMatcherSettings": ("kind", ""),
    "NoReaderSettings": ("kind", ""),
    "NoSummarizerSettings": ("kind", ""),
    "NoToolSettings": ("kind", ""),
    "OraclePolicySettings": ("kind", ""),
    "OracleSettings": ("fault limits crop image_search text_searches without kind", "ablates change replicates"),
    "OtherWorkflowSettings": (
        "fault limits crop image_search text_searches without policy prompt kind thumbnails",
        "ablates change replicates",
    ),
    "OwnGroundingSettings": ("box_threshold kind dialect", ""),
    "OwnRollouts": (
        "temperature max_new_tokens tool_timeout failed truncated flat resample backend",
        "concurrency share_prompts batch",
    ),
    "OwnSummarizerSettings": ("sentences encoder kind per_page", ""),
    "PictureMatcherSettings": ("kind ranks", ""),
    "Pictures": ("format quality max_pixels crops hits", ""),
    "PlayerSettings": ("policy tools prompt gold_boxes", ""),
    "PretrainRecipe": (
        "seed hidden layers inner text vision align keys scenes boxes joint",
        "output save_every evaluate_every needs",
    ),
    "ProviderReaderSettings": ("kind", "key_variable"),
    "ProviderSettings": ("name optional", "per_second concurrency key_variable"),
    "ProviderToolSettings": (
        f"{SEARCH} kind text image reader",
        "needs encoders",
    ),
    "RagSettings": ("fault policy prompt kind thumbnails", "ablates change replicates"),
    "RankMatcherSettings": ("kind ranks", ""),
    "ReplaySettings": ("mode cassette", ""),
    "RewardSettings": ("kind", ""),
    "RuleJudgeSettings": ("kind rule bem", ""),
    "SearchByRollouts": ("by rollouts", "concurrency"),
    "SearchByTrajectory": ("by", ""),
    "Splits": ("validation rows_per_file", ""),
    "StageSettings": ("steps batch muon_lr adam_lr warmup decay_from workers", ""),
    "TableSeeds": ("seed benchmark path split count shard", "images"),
    "Tries": ("", "attempts wait"),
    "Unique": ("bits overlap per_picture against", ""),
    "VllmColocateRollouts": (
        "temperature max_new_tokens tool_timeout failed truncated flat resample backend",
        "concurrency share_prompts",
    ),
    "VllmServerRollouts": (
        "temperature max_new_tokens tool_timeout failed truncated flat resample backend",
        "concurrency share_prompts sync weights",
    ),
    "WebReaderSettings": ("kind", ""),
}


def models() -> dict[str, type[BaseModel]]:
    """Every model that a recipe with an output may be made of."""
    seen: set[int] = set()
    found: dict[str, type[BaseModel]] = {}
    for root in (EvalRecipe, DataRecipe, AnyExperiment, FineTuning, PretrainRecipe):
        for kind, mark in parts(root, seen):
            members = mark.kinds(get_args(kind)[0]).values() if mark is not None else [kind]
            found |= {member.__name__: member for member in members}
    return found


MODELS = models()


def test_every_model_of_a_recipe_is_decided() -> None:
    assert set(MODELS) == set(DECIDED)


@pytest.mark.parametrize("name", MODELS)
def test_every_setting_is_decided(name: str) -> None:
    counts, aside = (set(listed.split()) for listed in DECIDED.get(name, ("", "")))
    given = set(MODELS[name].model_fields)
    assert given == counts | aside and not counts & aside, (
        f"{name}: say here whether {sorted(given ^ (counts | aside))} can change a result, and annotate it Aside if not"
    )
    assert set(decisive(MODELS[name].model_construct(**dict.fromkeys(given)))) == counts


def test_what_is_aside_of_trl_are_settings_of_trl() -> None:
    pytest.importorskip("trl")
    from trl import GRPOConfig, SFTConfig

    from deepmmsearch.train.trl_settings import TRL_ASIDE

    assert {f.name for kind in (GRPOConfig, SFTConfig) for f in fields(kind)} >= TRL_ASIDE
