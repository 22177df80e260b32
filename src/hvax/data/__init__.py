"""Data: arrays in, batches out."""
