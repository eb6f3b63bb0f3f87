"""What is left when the server's process is killed, its disk is full, or those who watch go away."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import openai
import yaml
from mcp.client.client import Client
from PIL import Image

from deepmmsearch.images import data_url
from deepmmsearch.serve.history import History
from deepmmsearch.serve.refusals import INTERRUPTED
from endpoints import Answer, endpoint, late, streamed
from serving import KNOW, Scripted, house, running

COLOURS = {"the fast one": (255, 0, 0), "slow, one": (0, 255, 0), "slow, two": (0, 0, 255)}


def wait_for(enough: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not enough():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.02)


def started(folder: Path, url: str) -> tuple[subprocess.Popen[str], str]:
    """A server and its address, the empty text where it does not start."""
    policy = {"kind": "chat", "base_url": url, "model": "vlm"}
    (folder / "serve.yaml").write_text(yaml.safe_dump({"models": {"m": {"policy": policy}}, "store": "kept"}))
    command = [sys.executable, "-P", "-m", "deepmmsearch", "serve", "serve.yaml", "--port", "0"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().split(" ")[0].rstrip("/")


def events(url: str, id: str) -> list[dict[str, Any]]:
    with httpx2.stream("GET", f"{url}/api/questions/{id}/events", timeout=30) as reply:
        return [json.loads(line[6:]) for line in reply.iter_lines() if line.startswith("data: ")]


def test_after_a_kill_the_history_is_whole(tmp_path: Path) -> None:
    def reply(body: dict[str, Any]) -> Answer:
        return late() if "slow" in json.dumps(body) else streamed("<reason>I see.</reason>", "<answer>Orm</answer>")

    ids: dict[str, str] = {}
    processes = []
    with endpoint(reply) as model:
        try:
            process, url = started(tmp_path, model.url)
            processes.append(process)
            for text, colour in COLOURS.items():
                picture = data_url(Image.new("RGB", (60, 40), colour))
                asked = httpx2.post(f"{url}/api/questions", json={"text": text, "pictures": [picture]}, timeout=30)
                ids[text] = asked.json()["id"]
            assert events(url, ids["the fast one"])[-1]["end"]["stop"] == "answer"
            stored = tmp_path / "kept" / "local" / "trajectories.jsonl"
            wait_for(lambda: len(model.asked) == 3 and all(id in stored.read_text() for id in ids.values()))

            second, nothing = started(tmp_path, model.url)
            processes.append(second)
            assert nothing == "" and second.wait(30) == 2 and second.stderr is not None
            told = second.stderr.read()
            assert "Another server keeps its history" in told and "Traceback" not in told

            process.kill()
            process.wait()
            again, url = started(tmp_path, model.url)
            processes.append(again)
            listed = httpx2.get(f"{url}/api/history", timeout=30).json()["conversations"]
            assert len(listed) == 3
        finally:
            for each in processes:
                each.kill()
                each.wait()
    history = History(tmp_path / "kept" / "local")
    found = {entry.question: entry for entry in history.entries()}
    assert {text: entry.id for text, entry in found.items()} == ids
    assert (found["the fast one"].answer, found["the fast one"].stop) == ("Orm", "answer")
    assert [found[text].error for text in ("slow, one", "slow, two")] == [INTERRUPTED] * 2
    for text, colour in COLOURS.items():
        assert history.get(ids[text]).question.images[0].getpixel((0, 0)) == colour
    history.close()


KEEPS = """
import itertools, sys
from pathlib import Path
from PIL import Image
from deepmmsearch.prompts import load_prompt
from deepmmsearch.serve.history import History
from deepmmsearch.types import Question, Trajectory

history, began, prompt = History(Path(sys.argv[1])), int(sys.argv[2]), load_prompt("atlas")
for n in itertools.count(began):
    picture = Image.effect_noise((200, 150), 80).convert("RGB")
    picture.putpixel((0, 0), (n % 256, n // 256, 7))
    history.keep(Trajectory(Question(str(n), "Who?", (picture,)), prompt).failed("x"), {})
    print(n, flush=True)
"""


def test_what_was_kept_is_there_whenever_the_process_is_killed(tmp_path: Path) -> None:
    chance, kept = random.Random(3), 0
    for _ in range(3):
        command = [sys.executable, "-P", "-c", KEEPS, str(tmp_path / "store"), str(kept)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.uniform(0, 0.1))
        process.kill()
        told = [kept, *(int(line) for line in process.communicate()[0].split())]
        history = History(tmp_path / "store")
        there = {int(entry.id) for entry in history.entries()}
        assert set(range(told[-1] + 1)) <= there
        for n in there:
            assert history.get(str(n)).question.images[0].getpixel((0, 0)) == (n % 256, n // 256, 7)
        history.close()
        kept = max(there) + 1


async def test_on_a_full_disk_the_answer_is_given_and_it_is_said_that_it_was_not_kept(tmp_path: Path) -> None:
    served = house(tmp_path, Scripted([KNOW]))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    history = served.histories.of("local")
    history.keep = history.accept = full  # type: ignore[method-assign]
    messages: Any = [{"role": "user", "content": "Which?"}]
    with running(served) as url:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:
            done = await client.chat.completions.create(model="m", messages=messages)
            assert "No space left" in done.choices[0].message.reasoning_content  # type: ignore[attr-defined]
            assert done.choices[0].message.content == "Orm"
            stream = await client.chat.completions.create(model="m", messages=messages, stream=True)
            deltas = [chunk.choices[0].delta async for chunk in stream]
            assert "No space left" in "".join(getattr(d, "reasoning_content", None) or "" for d in deltas)
            assert "".join(d.content or "" for d in deltas) == "Orm"
        async with Client(f"{url}/mcp") as host:
            found = await host.call_tool("answer_about_picture", {"question": "Which?"})
            assert found.structured_content["answer"] == "Orm"
            assert "No space left" in found.structured_content["steps"][-1]
        async with httpx2.AsyncClient() as page:
            id = (await page.post(f"{url}/api/questions", json={"text": "Which?"})).json()["id"]
            told = await page.get(f"{url}/api/questions/{id}/events", timeout=30)
            assert "No space left" in told.text and "Orm" in told.text
        assert served.room.playing == 0


def test_two_watch_one_run_and_one_goes_away(tmp_path: Path) -> None:
    policy = Scripted([KNOW], seconds=1.0)
    with running(house(tmp_path, policy)) as url:
        id = httpx2.post(f"{url}/api/questions", json={"text": "Which?"}).json()["id"]
        seen: list[list[dict[str, Any]]] = []
        stays = threading.Thread(target=lambda: seen.append(events(url, id)))
        stays.start()
        with httpx2.stream("GET", f"{url}/api/questions/{id}/events", timeout=30) as goes:
            next(goes.iter_lines())
        stays.join(30)
        assert seen[0][-1]["end"]["stop"] == "answer"
        # and who comes back sees the whole
        assert events(url, id)[-1] == seen[0][-1] and len(policy.asked) == 1
