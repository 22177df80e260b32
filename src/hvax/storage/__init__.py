"""Folders that one process holds, and what a file system may refuse without ending a run."""
