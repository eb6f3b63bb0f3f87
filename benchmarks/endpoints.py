"""What becomes of what servers answer: the table of shapes and behaviours, each checked.

    python benchmarks/endpoints.py

The shapes (`tests/endpoint_shapes.jsonl`) were written down from reports of the servers' users; each is played by a
small server on this machine. Whether a model behind a real server plays as it does in this process: `served.py`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parent.parent / "tests"


def shapes() -> int:
    """Runs the contract, one line a shape; the number of those that are not right."""
    rows = [json.loads(line) for line in (TESTS / "endpoint_shapes.jsonl").read_text("utf-8").splitlines()]
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-rA", str(TESTS / "test_endpoint_shapes.py")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=TESTS.parent, check=False)
    right = {line.removeprefix("PASSED ").partition("[")[2].removesuffix("]") for line in done.stdout.splitlines()}
    wrong = 0
    for row in rows:
        name = f"{row['server']}: {row['shape']}"
        ok = name in right
        wrong += not ok
        print(f"  {'right' if ok else 'WRONG':6} {row['server']:18} {row['shape']:58} {_wanted(row['wants'])}")
    servers = Counter(row["server"] for row in rows)
    print(f"\n{len(rows) - wrong} of {len(rows)} shapes of {len(servers)} servers are right")
    return wrong


def _wanted(wants: dict[str, object]) -> str:
    told = {
        "error": "an error",
        "lenient": "an answer where somebody waits",
        "action": "a search",
        "answer": "an answer",
    }
    what = next((said for name, said in told.items() if name in wants), f"ends with {wants.get('finish')}")
    left = wants.get("left_out")
    return what + (f", without {', '.join(map(str, left))}" if isinstance(left, list) else "")


def main() -> None:
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    sys.exit(shapes() > 0)


if __name__ == "__main__":
    main()
