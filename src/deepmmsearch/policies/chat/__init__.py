"""Any OpenAI-compatible endpoint: vLLM, SGLang, Ollama, llama.cpp, transformers serve, hosted ones.

`chat_policy` asks, `requests` makes requests that the server takes, `replies` reads what comes back, `failures` says
what went wrong.
"""

from deepmmsearch.policies.chat.chat_policy import MAX_PIXELS, MIN_PIXELS, STOP, ChatPolicy
from deepmmsearch.policies.chat.failures import EndpointError

__all__ = ["MAX_PIXELS", "MIN_PIXELS", "STOP", "ChatPolicy", "EndpointError"]
