"""A vision-language model in this process, through transformers."""

from deepmmsearch.policies.local.pieces import TokenReader
from deepmmsearch.policies.local.policy import LocalPolicy
from deepmmsearch.policies.local.slots import SlotPolicy

__all__ = ["LocalPolicy", "SlotPolicy", "TokenReader"]
