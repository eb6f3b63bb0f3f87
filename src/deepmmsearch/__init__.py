"""DeepMMSearch: a multimodal agent that decides what to look up, with which tool, and when to stop."""

__version__ = "0.1.0"
