"""Experiments with hvax's public API; each is a program of its own, python -m experiments.NAME."""
