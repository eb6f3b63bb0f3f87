"""Runs where moto and s3fs are: a server of S3's protocol, and our commands against it. Prints OK after each part.

python s3_child.py FOLDER               everything
python s3_child.py FOLDER grow ADDRESS  a run that is put up all the time, until it is killed
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from click.testing import CliRunner
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

from deepmmsearch.cli import group
from deepmmsearch.eval.run import EvalRun
from deepmmsearch.object_storage.local_copies import local_copy
from deepmmsearch.object_storage.remote_folders import RemoteFolder
from deepmmsearch.object_storage.working_copy import WorkingCopy
from endpoints import endpoint, said
from part_runs import write_eval_recipe

SECRET = "geheimer-schluessel-0123456789"


def main(folder: Path) -> None:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "AKIAZUGANG0123456789",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "OPENAI_API_KEY": "key",
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    S3FileSystem().mkdir("bucket")
    try:
        evaluations(folder)
        killed(folder)
        large(folder)
        refusals(folder)
    finally:
        server.stop()
    kept = [path for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert not kept, kept
    print("OK keys")


def done(*arguments: object) -> str:
    result = CliRunner().invoke(group, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output + repr(result.exception)
    assert SECRET not in result.output
    return result.output


def evaluations(folder: Path) -> None:
    with endpoint(lambda body: said("<reason>I know.</reason><answer>Balor</answer>")) as served:
        recipe = write_eval_recipe(folder, served.url, 9)
        done("eval", recipe, "--no-report", f"output={folder / 'whole'}")
        whole = {key: row.score for key, row in EvalRun(folder / "whole").judged().items()}
        RemoteFolder("s3://bucket/in").put("mine.jsonl", folder / "mine.jsonl")
        (folder / "mine.jsonl").unlink()
        asked = "benchmarks.0.name=s3://bucket/in/mine.jsonl"
        for number in (1, 2):
            done("eval", recipe, asked, "--part", f"{number}/2", "--out", "s3://bucket/run")
        done("eval", "merge", folder / "merged", "s3://bucket/run.part-*", "--no-report")
        assert {key: row.score for key, row in EvalRun(folder / "merged").judged().items()} == whole
        served.asked.clear()
        # on a machine that has nothing of it
        part = f"output={folder / 'elsewhere'}"
        done("eval", recipe, asked, "--out", "s3://bucket/run.part-1-of-2", "--only", "direct", part, "--no-report")
        assert len(served.asked) == 4, len(served.asked)
        done("data", "convert", "s3://bucket/run.part-1-of-2/trajectories", "s3://bucket/sft", "--to", "parquet")
        assert "Wrote 9 rows" in done("data", "convert", "s3://bucket/sft", folder / "again.parquet", "--to", "verl")
        done("show", "s3://bucket/run.part-1-of-2/trajectories", "--json")
    print("OK evaluations")


def grow(folder: Path, address: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with WorkingCopy(folder, address, every=0.05):
        for number in range(10**6):
            (folder / "images").mkdir(exist_ok=True)
            (folder / f"images/{number}.png").write_bytes(b"x" * 1000)
            with (folder / "trajectories.jsonl").open("a") as file:
                file.write(json.dumps({"number": number}) + "\n")
            time.sleep(0.05)


def killed(folder: Path) -> None:
    """Whenever it dies, what is there belongs together, and the next run goes on from it."""
    last = 0
    for turn in range(2):
        command = [sys.executable, __file__, str(folder), "grow", "s3://bucket/growing"]
        child = subprocess.Popen(command)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and _size() <= last:
            time.sleep(0.1)
        time.sleep(0.5 + 0.2 * turn)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        there = local_copy("s3://bucket/growing")
        numbers = [json.loads(line)["number"] for line in (there / "trajectories.jsonl").read_text().splitlines()]
        assert numbers
        assert all((there / f"images/{number}.png").stat().st_size == 1000 for number in numbers)
        last = (there / "trajectories.jsonl").stat().st_size
    print("OK killed")


def _size() -> int:
    manifest = RemoteFolder("s3://bucket/growing").manifest()
    pieces = manifest.files.get("trajectories.jsonl", ()) if manifest else ()
    return sum(piece.size for piece in pieces)


def large(folder: Path) -> None:
    """Above what goes up in one request."""
    made = folder / "large"
    made.mkdir()
    (made / "train-00000.parquet").write_bytes(os.urandom(1 << 20) * 120)
    with WorkingCopy(made, "s3://bucket/large"):
        pass
    copy = local_copy("s3://bucket/large/train-00000.parquet")
    assert copy.read_bytes() == (made / "train-00000.parquet").read_bytes()
    print("OK large")


def refusals(folder: Path) -> None:
    def refused(*arguments: object) -> str:
        result = CliRunner().invoke(group, [str(a) for a in arguments])
        assert result.exit_code and SECRET not in result.output + str(result.exception)
        return str(result.exception)

    assert "There is nothing at s3://bucket/no.jsonl" in refused("data", "show", "s3://bucket/no.jsonl")
    assert "is a whole bucket" in refused("data", "show", "s3://bucket")
    assert "s3://nobucket/a.jsonl" in refused("data", "show", "s3://nobucket/a.jsonl")
    endpoint_url = os.environ["AWS_ENDPOINT_URL"]
    os.environ["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"
    said_ = refused("data", "show", "s3://bucket/in/mine.jsonl")
    os.environ["AWS_ENDPOINT_URL"] = endpoint_url
    assert "cannot be used" in said_, said_
    print("OK refusals")


if __name__ == "__main__":
    if sys.argv[2:3] == ["grow"]:
        grow(Path(sys.argv[1]) / "growing", sys.argv[3])
    else:
        main(Path(sys.argv[1]))
