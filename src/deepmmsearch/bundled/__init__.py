"""The small model that comes with the package, and what only it needs: its pretraining and its lessons."""

from pathlib import Path

BUNDLED = Path(__file__).parent / "model"
