"""Which source made a result."""

from __future__ import annotations

import subprocess
from pathlib import Path


def revision() -> str:
    """The git revision of this source tree, `+changed` where it differs; empty outside a checkout."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10)
        status = subprocess.run([*git, "status", "--porcelain", "."], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return head.stdout.strip() + ("+changed" if status.stdout.strip() else "")
