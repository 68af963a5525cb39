"""convflow: from a folder of labelled images to a registered, gated, reproducible image classifier."""

__version__ = "0.1.0"
