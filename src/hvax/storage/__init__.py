"""Persistence: atomic files, locks, arrays, model structure, checkpoints and the run folder."""
