"""The tools a policy may use: one file each, found through the entry-point group `deepmmsearch.actions`."""
