"""A checkpoint that somebody else made: its code is not run, and its template and patterns end."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.checkpoints import tiny_checkpoint

from deepmmsearch.bundled import BUNDLED
from deepmmsearch.confined import Worker
from deepmmsearch.errors import UserError
from deepmmsearch.policies import bounded
from deepmmsearch.policies.agent_card import read_card
from deepmmsearch.policies.local import LocalPolicy, TokenReader
from deepmmsearch.policies.local.adapter import check_adapter, load_adapter, save_adapter
from deepmmsearch.policies.local.checkpoint import load_checkpoint, load_tokenizer, read_parts
from deepmmsearch.policies.local.template import template_of
from deepmmsearch.testing import QWEN2_5_VL_TEMPLATE, SMALL_TEMPLATE, tiny_tokenizer
from deepmmsearch.train.lora import Lora, prepare_model

CONVERSATION = [
    {"role": "system", "content": [{"type": "text", "text": "Be short.\n"}]},
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "<b>Wér?</b> \ud800 {{ 7 * 7 }}"}]},
    {"role": "assistant", "content": [{"type": "text", "text": "  Ada\n"}]},
    {"role": "user", "content": "plain"},
]
TEMPLATES = {
    "qwen2.5-vl": QWEN2_5_VL_TEMPLATE,
    "small": SMALL_TEMPLATE,
    "spaces": "  {% for m in messages %}\n    {% if m.role %}\n  {{- m.role | trim }}\n{% endif %}{% endfor %}\n\n",
    "json": "{{ messages | tojson(indent=2) }}{{ {'b': 1, 'a': '<é>'} | tojson(sort_keys=True) }}",
    "loops": "{% for m in messages %}{% if loop.index0 == 1 %}{% continue %}{% endif %}{{ loop.index }}{% endfor %}",
    "generation": "{% for m in messages %}{% generation %}{{ m.role }}{% endgeneration %}{% endfor %}",
    "names": "{{ eos_token }}|{{ pad_token }}|{{ tools }}|{{ add_generation_prompt }}|{{ nothing is defined }}",
    "namespace": "{% set n = namespace(x=0) %}{% for m in messages %}{% set n.x = n.x + 1 %}{% endfor %}{{ n.x }}",
    "macro": "{% macro f(m) %}[{{ m.role }}]{% endmacro %}{% for m in messages %}{{ f(m) }}{% endfor %}",
    "dict": "{{ dict(a=1) }}{{ messages[0].get('none', 'd') }}{{ messages[-1].content.split('a') }}",
}


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("reply", [True, False])
def test_a_template_is_rendered_as_transformers_renders_it(name: str, reply: bool) -> None:
    tokenizer = tiny_tokenizer(TEMPLATES[name])
    template = template_of(tokenizer)
    assert template is not None
    expected = tokenizer.apply_chat_template(CONVERSATION, tokenize=False, add_generation_prompt=reply)
    assert template(CONVERSATION, reply) == expected


def test_our_own_template_needs_no_process() -> None:
    _, tokenizer = load_tokenizer(str(BUNDLED))
    assert template_of(tokenizer) is None


HOSTILE = {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}" + 3 * "{% endfor %}",
    "text": "{% for m in messages %}{{ 'x' * 10**11 }}{% endfor %}",
    "doubling": "{% set n = namespace(x='x') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n }}",
    "width": "{{ 'x' | center(10**11) }}{{ '%100000000000d' | format(1) }}",
    "power": "{{ 9 ** (9 ** 9) }}",
    "macro": "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "twice": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
}


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The limit is a third of a second instead of ten."""
    worker = Worker("deepmmsearch.policies.bounded", 0.3, memory=bounded.MEMORY)
    lock = bounded._process()[1]
    monkeypatch.setattr(bounded, "_process", lambda: (worker, lock))
    yield
    worker.close()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_template_ends(name: str, soon: None) -> None:
    template = template_of(tiny_tokenizer(HOSTILE[name]))
    assert template is not None
    began = time.process_time()
    with pytest.raises(ValueError, match=r"too|took|crashed|int"):
        template(CONVERSATION, True)
    assert time.process_time() - began < 5
    # and the next one is rendered again
    assert template_of(tiny_tokenizer("{{ messages[0].role }}"))(CONVERSATION, True) == "system"  # type: ignore[misc]


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{% include '/etc/hostname' %}",
        "{% import 'os' as os %}{{ os }}",
        "{{ raise_exception('No, thank you.') }}",
        "{{ 1 / 0 }}",
        "{% for %}",
    ],
)
def test_a_template_does_nothing_but_write_text(template: str) -> None:
    rendered = template_of(tiny_tokenizer(template))
    assert rendered is not None
    with pytest.raises(ValueError):
        rendered(CONVERSATION, True)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("theirs") / "model")


@pytest.fixture
def theirs(checkpoint: Path, tmp_path: Path) -> Path:
    shutil.copytree(checkpoint, tmp_path / "model")
    return tmp_path / "model"


def test_a_checkpoint_with_a_template_that_never_ends_is_refused(theirs: Path, soon: None) -> None:
    hostile = HOSTILE["loops"]
    for name in ("chat_template.jinja", "tokenizer_config.json"):
        path = theirs / name
        path.write_text(
            hostile if name.endswith("jinja") else json.dumps(json.loads(path.read_text()) | {"chat_template": hostile})
        )
    for load in (lambda: read_parts(theirs).renderer(), lambda: TokenReader(theirs), lambda: LocalPolicy.load(theirs)):
        with pytest.raises(UserError, match="took more than"):
            load()


def test_code_of_a_checkpoint_is_never_run_and_never_asked_for(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: Any) -> str:
        raise AssertionError("somebody was asked")

    monkeypatch.setattr("builtins.input", asked)
    (theirs / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    for name in ("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json"):
        path = theirs / name
        values = json.loads(path.read_text()) if path.exists() else {}
        kinds = ("AutoConfig", "AutoModelForImageTextToText", "AutoTokenizer", "AutoImageProcessor", "AutoProcessor")
        path.write_text(json.dumps(values | {"auto_map": dict.fromkeys(kinds, "evil.Thing")}))
    try:
        load_checkpoint(theirs, "auto")
    except UserError as error:
        assert "code of its own" in str(error) or "could be loaded" in str(error)
    values = json.loads((theirs / "config.json").read_text()) | {"model_type": "theirs"}
    (theirs / "config.json").write_text(json.dumps(values))
    with pytest.raises(UserError):
        load_checkpoint(theirs, "auto")
    assert not (tmp_path / "ran").exists() and "evil" not in sys.modules


@pytest.mark.parametrize(
    "listed",
    [
        '["a"]',
        '{"a": ["b"]}',
        '{"a": 7}',
        '{"a": "\\ud800"}',
        '{"a": "../other/x.safetensors"}',
        '{"a": "/x"}',
        "7",
        "null",
    ],
)
def test_the_list_of_weights_names_files_of_the_checkpoint(theirs: Path, listed: str) -> None:
    (theirs / "model.safetensors.index.json").write_text(f'{{"weight_map": {listed}}}')
    with pytest.raises(UserError, match=r"names no files of its folder|missing or damaged"):
        read_parts(theirs)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json", "agent.json"])
def test_settings_nested_too_deeply_are_one_sentence(theirs: Path, name: str) -> None:
    (theirs / name).write_text('{"a":' + "[" * 100_000)
    with pytest.raises(UserError, match="nests more than"):
        read_parts(theirs)


@pytest.mark.parametrize("prompt", ["../../private", "/etc", "./mine", "a/b", "a\\b", "."])
def test_a_card_names_a_prompt_set_and_no_folder(theirs: Path, prompt: str) -> None:
    (theirs / "agent.json").write_text(json.dumps({"prompt": prompt}))
    with pytest.raises(UserError, match="the name of a prompt set is expected"):
        read_card(theirs)
    (theirs / "agent.json").write_text('{"prompt": "deepmmsearch-r1"}')
    assert read_card(theirs).prompt == "deepmmsearch-r1"
    for text in ("[" * 5000, '{"max_new_tokens": ' + "9" * 5000 + "}"):
        (theirs / "agent.json").write_text(text)
        with pytest.raises(UserError, match="cannot be read as JSON"):
            read_card(theirs)


@pytest.fixture(scope="module")
def lora(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("theirs") / "adapter"
    save_adapter(prepare_model(load_checkpoint(checkpoint, torch.float32).model, Lora(r=2), ("vision",), 0), folder)
    return folder


def changed(lora: Path, folder: Path, **settings: Any) -> Path:
    shutil.copytree(lora, folder)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return folder


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": "(.*)*(.*)*(.*)*x\\d"},
        {"target_modules": "((a|a|[a-z._0-9])*)*$x"},
        {"exclude_modules": "(([a-z._0-9])+)+!"},
        {"modules_to_save": ["(([a-z._0-9])+)+!"]},
        {"rank_pattern": {"(([a-z._0-9])+)+!": 4}},
        {"alpha_pattern": {"(([a-z._0-9])+)+!": 4}},
        {"target_modules": "("},
    ],
)
def test_the_patterns_of_an_adapter_end(
    checkpoint: Path, lora: Path, tmp_path: Path, soon: None, settings: dict[str, Any]
) -> None:
    model = load_checkpoint(checkpoint, torch.float32).model
    with pytest.raises(UserError, match="a pattern for names of modules"):
        load_adapter(model, changed(lora, tmp_path / "adapter", **settings))


def test_usual_patterns_are_taken(checkpoint: Path, lora: Path, tmp_path: Path) -> None:
    load_adapter(load_checkpoint(checkpoint, torch.float32).model, lora)
    pattern = r"(?:.*?(?:language|text|model).*?(?:self_attn|mlp|ffn).*?(?:[qkvo]_proj|gate_proj|up_proj|down_proj).*?)"
    names = [name for name, _ in load_checkpoint(checkpoint, torch.float32).model.named_modules()]
    bounded.check_patterns([pattern, "q_proj", r"^(?!.*patch_embed).*(?:linear|proj)\.\d+$"], names * 10)


@pytest.mark.parametrize("settings", [{"peft_type": "XLORA"}, {"megatron_config": {"a": 1}, "megatron_core": "evil"}])
def test_an_adapter_imports_nothing(lora: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="not a plain LoRA"):
        check_adapter(changed(lora, tmp_path / "adapter", **settings))
