"""What holds for packages that open their own connections, past the guarded client: private addresses, redirects and
sizes are not checked there. A recipe has to say `unguarded: true` before one is used, and no proxy is gone through
that the recipe does not name.
"""

from __future__ import annotations

import os
from urllib.request import getproxies

from deepmmsearch.errors import UserError


def check_unguarded(name: str, unguarded: bool, proxy: str, *variables: str) -> None:
    """`variables`: what the package reads for a proxy, besides the usual ones. Raises UserError."""
    if not unguarded:
        raise UserError(
            f"{name} opens its own connections, past the guarded client. Set unguarded: true for it, or use another."
        )
    if not proxy and (getproxies().keys() - {"no"} or any(map(os.environ.get, variables))):
        raise UserError(
            f"{name} would go through the proxy that the environment names. Set proxy of {name} to it, or run without."
        )
