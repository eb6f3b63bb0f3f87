"""Search providers: one file, one class each, found through the entry-point group `deepmmsearch.providers`."""
