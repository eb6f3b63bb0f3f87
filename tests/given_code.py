"""A stage whose command is Python code: `python -m given_code CODE`."""

import sys

exec(sys.argv[1])
