"""Words of all scripts: where they begin and end, what language they are in, and by what terms they are found."""
