"""Programs of a policy, run in this machine (`computing`)."""

from __future__ import annotations

from deepmmsearch.agent.metering import calling
from deepmmsearch.computing import check_isolation, compute
from deepmmsearch.tools.threads import ToolThreads


class IsolatedPython:
    """Interpreter: each program in a new process that reaches nothing. At most two run at once."""

    name = "python"

    def __init__(self) -> None:
        """Raises UserError where programs cannot be isolated."""
        check_isolation()
        self._threads = ToolThreads("python", 2)

    async def run(self, program: str, seconds: int) -> str:
        with calling("python", self.name):
            return await self._threads.run(compute, program, seconds)
