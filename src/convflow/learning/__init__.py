"""Training, and models on disk."""
