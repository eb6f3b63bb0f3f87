"""The architecture as a test: imports point down, heavy packages stay where they belong."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "deepmmsearch"

# Lowest first: a module imports what stands in the layers below its own.
LAYERS: tuple[tuple[str, ...], ...] = (
    (
        *("types", "errors", "disk", "containers", "environment", "sandbox", "progress", "notation", "thoughts"),
        *("normal_forms", "png"),
    ),
    ("redaction", "strict_yaml", ""),
    ("escaping",),
    ("streams", "hosts"),
    ("children", "revision"),
    ("prompt_sources",),
    ("arguments", "registry", "codec", "filenames", "files", "index_place", "settings", "confined", "computing"),
    ("decoding",),
    ("images", "outputs", "console", "sealing", "object_storage"),
    ("agent",),
    ("actions", "dialects", "prompts"),
    ("renderer", "store"),
    ("language",),
    ("reading",),
    ("policies",),
    ("engine",),
    ("tools", "digests"),
    ("judge",),
    ("rewards", "show"),
    ("atlas",),
    ("data",),
    ("eval", "train"),
    ("bundled",),
    ("testing",),
    ("compose",),
    ("lmms", "reproduce", "serve", "scale"),
    ("cli",),
    ("__main__",),
)


HEAVY = {"torch", "transformers", "trl", "peft", "accelerate", "sentence_transformers"}
HEAVY_ALLOWED = (
    "policies.local",
    "policies.devices",
    "engine.encoders",
    "engine.efficientnet",
    "tools.grounding",
    "judge.bem",
    "train",
    "bundled",
    "testing",
    "scale",
)
# What an installation without extras has: only these may be imported by modules that every command loads.
BASE_MODULES = (
    "",
    "types",
    "errors",
    "arguments",
    "registry",
    "codec",
    "files",
    "outputs",
    "decoding",
    "images",
    "protocol",
    "prompts",
    "agent",
    "renderer",
    "store",
    "testing",
    "cli",
)


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = list(path.relative_to(SOURCE).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(path: Path, *, top_only: bool = False) -> Iterator[str]:
    """Full names of what a file imports; `top_only`: at import time, type checking aside."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            pending += node.orelse
            continue
        if top_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the full name"
            module = node.module or ""
            for alias in node.names:
                full = f"{module}.{alias.name}"
                yield full if full.removeprefix("deepmmsearch.") in MODULES else module
        pending += ast.iter_child_nodes(node)


def layer(module: str) -> int:
    for depth, names in enumerate(LAYERS):
        if module.split(".")[0] in names:
            return depth
    raise AssertionError(f"deepmmsearch.{module} has no place in LAYERS; say where it belongs")


def within(module: str, names: tuple[str, ...]) -> bool:
    return any(module == name or (name and module.startswith(f"{name}.")) for name in names)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    # the package itself is the door to what stands at the top, which it opens when it is asked for
    for name in imports(MODULES[module], top_only=module == ""):
        if name != "deepmmsearch" and not name.startswith("deepmmsearch."):
            continue
        target = name.removeprefix("deepmmsearch").removeprefix(".")
        beside = layer(target) == layer(module) and target.split(".")[0] == module.split(".")[0]
        assert layer(target) < layer(module) or beside, f"{module} imports {target}, which stands above or beside it"


@pytest.mark.parametrize("module", MODULES)
def test_heavy_packages_stay_where_they_belong(module: str) -> None:
    heavy = {name.split(".")[0] for name in imports(MODULES[module])} & HEAVY
    assert not heavy or within(module, HEAVY_ALLOWED), f"{module} imports {sorted(heavy)}"


@pytest.mark.parametrize("module", [m for m in MODULES if within(m, BASE_MODULES)])
def test_the_base_needs_no_extra(module: str) -> None:
    allowed = {
        "click",
        "rich",
        "pydantic",
        "yaml",
        "PIL",
        "numpy",
        "jinja2",
        "filelock",
        "deepmmsearch",
        *sys.stdlib_module_names,
    }
    outside = {name.split(".")[0] for name in imports(MODULES[module], top_only=True)} - allowed
    assert not outside, f"{module} imports {sorted(outside)} at import time"


def test_trl_is_imported_by_training_alone() -> None:
    users = {m for m, path in MODULES.items() if any(n.split(".")[0] == "trl" for n in imports(path))}
    assert all(within(m, ("train", "scale")) for m in users), users


def test_nothing_is_pickled() -> None:
    pickles = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "joblib"}
    assert not {m for m, path in MODULES.items() if pickles & {n.split(".")[0] for n in imports(path)}}


def test_processes_are_started_in_one_place() -> None:
    starters = {"subprocess", "multiprocessing", "torch.multiprocessing", "pty", "_posixsubprocess"}
    calls = re.compile(
        r"\b(ProcessPoolExecutor|create_subprocess_\w+|os\.(system|popen|fork\w*|exec[lv]\w*|posix_spawn\w*))\b"
    )
    found = {
        module
        for module, path in MODULES.items()
        if {n for name in imports(path) for n in (name, name.split(".")[0])} & starters
        or calls.search(path.read_text(encoding="utf-8"))
    }
    # these name the type of what they are given
    typed = {"reproduce.study", "confined"}
    assert found == {"children", "revision", *typed}, found
    assert not any(re.search(r"subprocess\.(Popen|run|call|check_\w+)\(", MODULES[m].read_text()) for m in typed)


def test_pictures_are_decoded_in_one_place() -> None:
    in_process = re.compile(r"from deepmmsearch\.decoding import .*\bdecode\b|\bdecoding\.decode\(")
    assert not {module for module, path in MODULES.items() if in_process.search(path.read_text(encoding="utf-8"))}


def test_no_catch_all_modules() -> None:
    names = {m.split(".")[-1] for m in MODULES}
    assert not names & {"utils", "util", "common", "helpers", "misc"}


def test_importing_the_package_and_help_load_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from deepmmsearch import agent, images, prompts, renderer, store, testing\n"
        "from click.testing import CliRunner\n"
        "from deepmmsearch.cli import group\n"
        "result = CliRunner().invoke(group, ['--help'])\n"
        "assert result.exit_code == 0, result.output\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=600)
    assert done.stdout.strip() == "[]", done.stderr


def test_adding_a_page_loads_no_other_reader_and_nothing_for_pictures() -> None:
    script = (
        "import sys\n"
        "import deepmmsearch.engine, deepmmsearch.reading.worker, deepmmsearch.reading.markdown\n"
        "print(*sorted(name for name in sys.modules if name.startswith(%r)))"
    )
    later = (
        "cv2",
        "pydantic",
        "asyncio",
        "yaml",
        "filelock",
        "lxml",
        "deepmmsearch.images",
        "deepmmsearch.engine.image",
    )
    readers = {f"deepmmsearch.reading.{name}" for name in ("pdf", "webpage", "docx", "rst", "zim", "ocr", "mail")}
    done = subprocess.run(
        [sys.executable, "-c", script % ((*later, "deepmmsearch.reading."),)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    loaded = set(done.stdout.split())
    assert "deepmmsearch.reading.markdown" in loaded, done.stderr
    assert not loaded & {*later, *readers}
