"""How turns are written and read: one file a dialect, found through the entry-point group `deepmmsearch.dialects`."""
