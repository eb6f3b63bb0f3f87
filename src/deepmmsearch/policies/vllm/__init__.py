"""vLLM as the sampler of rollouts: tokens in, tokens out, pictures anywhere in the conversation."""

from deepmmsearch.policies.vllm.colocate import VllmColocatePolicy
from deepmmsearch.policies.vllm.remote import VllmServerPolicy
from deepmmsearch.policies.vllm.sampling import Sampling
from deepmmsearch.policies.vllm.weights import as_files, awake, send_weights

__all__ = ["Sampling", "VllmColocatePolicy", "VllmServerPolicy", "as_files", "awake", "send_weights"]
