"""Baselines: what a user would try first, on classical features of the pictures."""
