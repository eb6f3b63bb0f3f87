"""`python -m deepmmsearch`, which launchers of several processes need."""

import sys
from pathlib import Path

# -m puts the current folder before everything: what lies there is a stranger's, and named like anything
if not sys.flags.safe_path and sys.path and sys.path[0] == str(Path.cwd()):
    del sys.path[0]

from deepmmsearch.cli import main

main()
