"""`benchmarks/gpu.py` on CPU: it runs, and counts FLOPs as it says."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

pytest.importorskip("trl")


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    place = Path(__file__).parent.parent / "benchmarks" / "gpu.py"
    spec = importlib.util.spec_from_file_location("gpu_benchmark", place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_tiny_model_goes_through_every_step(gpu: ModuleType, tmp_path: Path) -> None:
    gpu.main(["--tiny", "--out", str(tmp_path / "gpu.md")])
    rows = [line for line in (tmp_path / "gpu.md").read_text().splitlines() if line.startswith("| ")][1:]
    names = [row.split("|")[1] for row in rows]
    assert [name.split()[0].rstrip(",") for name in names] == ["SFT", "GRPO", "GRPO", "sampling", "sampling"]
    for row in rows:
        tokens_a_second = float(row.split("|")[2].replace(",", ""))
        assert tokens_a_second > 0


def test_flops_by_hand(gpu: ModuleType, tmp_path: Path) -> None:
    checkpoint = gpu.build(gpu.TINY, tmp_path, torch.device("cpu"), torch.float32)
    model = checkpoint.model
    width, inner, narrow = 64, 128, 32
    layer = 2 * width * width + 2 * width * narrow + 3 * width * inner
    weights = 2 * layer + width * len(checkpoint.tokenizer)
    assert gpu.linear_weights(model, "language") == weights
    # two layers; queries times keys and weights times values, 2 FLOPs each, over half the square
    assert gpu.attention(model, 10) == 2 * (2 * 2 * width * 10 * 10 / 2)
    assert gpu.attention(model, 3, 7) + gpu.attention(model, 7) == gpu.attention(model, 10)
    rows = [gpu.row(gpu.TINY, checkpoint, 40, n, gpu.picture(gpu.TINY, 0)) for n in range(2)]
    start = rows[0].start
    assert start == rows[1].start and (rows[0].ids[:start] == rows[1].ids[:start]).all()
    saved = gpu.grpo_flops(model, rows, False) - gpu.grpo_flops(model, rows, True)
    assert saved == 6 * weights * start + 4 * gpu.attention(model, start), "one prompt less"


def test_peaks_go_by_the_name_of_the_device(gpu: ModuleType) -> None:
    assert gpu.peak_of("NVIDIA H100 80GB HBM3", None) == gpu.peak_of("NVIDIA H200", None) == 989
    assert gpu.peak_of("NVIDIA H100 PCIe", None) == 756 and gpu.peak_of("NVIDIA A100-SXM4-80GB", None) == 312
    assert gpu.peak_of("NVIDIA L4", None) is None and gpu.peak_of("NVIDIA L4", 121.0) == 121
    full = gpu.Measured("step", 1000, 2.0, 989e12, 40.0)
    table = gpu.table([full, gpu.Measured("sft", 0, None, None, None, "does not fit")], "H200", 989.0)
    assert "| step | 500 | 2 | 494 | 50 % | 40.0 GB |" in table and "| sft | does not fit |" in table


def test_without_a_gpu_the_script_says_so(gpu: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "there is no GPU" in capsys.readouterr().err
