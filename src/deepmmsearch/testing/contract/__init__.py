"""What must hold for everybody's provider, tool, dialect, policy, judge, summarizer and grounder: run it on your own.

Each contract is a tuple of plain functions, which take what is tried and assert. With pytest:

    @pytest.mark.parametrize("check", contract.JUDGE)
    def test_my_judge(check):
        check(contract.JudgeCase(MyJudge()))

They need no pytest; where it is there, `pytest.register_assert_rewrite("deepmmsearch.testing.contract")` before the
import has it say more.
"""

from deepmmsearch.testing.contract.checks import Check
from deepmmsearch.testing.contract.dialect import DIALECT
from deepmmsearch.testing.contract.grounder import GROUNDER
from deepmmsearch.testing.contract.judge import JUDGE, JudgeCase
from deepmmsearch.testing.contract.policy import POLICY, PolicyCase
from deepmmsearch.testing.contract.provider import PROVIDER, ProviderCase, running
from deepmmsearch.testing.contract.summarizer import SUMMARIZER
from deepmmsearch.testing.contract.tool import TOOL, ToolCase

__all__ = [
    "DIALECT",
    "GROUNDER",
    "JUDGE",
    "POLICY",
    "PROVIDER",
    "SUMMARIZER",
    "TOOL",
    "Check",
    "JudgeCase",
    "PolicyCase",
    "ProviderCase",
    "ToolCase",
    "running",
]
