"""One server for a page to ask in, OpenAI-compatible programs, and MCP hosts: `deepmmsearch serve`."""
