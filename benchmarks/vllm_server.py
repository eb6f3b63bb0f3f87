"""vLLM on a CPU, as `make test-vllm` installs it, for the tests of `tests/real_vllm` and for `rollouts.py --vllm`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

WINDOW = 2048
START_SECONDS = 900.0
ENVIRONMENT = {
    "PYTHONPATH": str(Path(__file__).parent.parent / "tests" / "real_vllm" / "torchvision_ops"),
    "VLLM_SERVER_DEV_MODE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    # compiling takes longer than everything that is done here
    "TORCHDYNAMO_DISABLE": "1",
    "VLLM_USE_AOT_COMPILE": "0",
}


@contextmanager
def started(model: Path, log: Path, arguments: Sequence[str] = ()) -> Iterator[str]:
    """The address of a server of `model`, called atlas there, in float32 on one core; it is gone after the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", "atlas"]
    command += ["--max-model-len", str(WINDOW), "--enforce-eager", "--enable-scale-out"]
    # alone it would take half precision, whatever the checkpoint's is
    command += ["--dtype", "float32"]
    # a seeded request whose prompt is read in parts ends vLLM 0.30 on a CPU
    command += ["--no-enable-chunked-prefill"]
    command += ["--logprobs-mode", "processed_logprobs", "--max-logprobs", "-1", *arguments]
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, env=os.environ | ENVIRONMENT, stdout=file, stderr=file, start_new_session=True
        )
    try:
        until = time.monotonic() + START_SECONDS
        while not _answers(url):
            assert process.poll() is None and time.monotonic() < until, log.read_text(errors="replace")[-3000:]
            time.sleep(1)
        yield url
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """With all that it started: its session holds them."""
    for number, seconds in ((signal.SIGTERM, 30), (signal.SIGKILL, 30)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            continue


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url + "/health", timeout=5):
            return True
    except OSError:
        return False
