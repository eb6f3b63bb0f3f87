"""Trajectories for people: in the terminal, as a page, and the sources of an answer."""
