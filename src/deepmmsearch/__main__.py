"""`python -m deepmmsearch`, which launchers of several processes need."""

from deepmmsearch.cli import main

main()
