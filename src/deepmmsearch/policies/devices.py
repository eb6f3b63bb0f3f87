"""What models can run on here."""

from __future__ import annotations


def describe_devices() -> str:
    """torch's version and the GPUs that it sees."""
    import torch

    seen = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    names = [f"{each.name} ({each.total_memory / 2**30:.0f} GiB)" for each in seen]
    names += ["Apple's GPU"] if torch.backends.mps.is_available() else []
    cuda = f"CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    return f"{torch.__version__}, {cuda}: {', '.join(names) or 'no GPU, models run on the processor'}"


def count_gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0
