"""Folders and files in object storage: written whole or not at all, read through copies on this machine's disk."""
