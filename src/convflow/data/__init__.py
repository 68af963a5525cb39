"""Images and the tables made from them, up to packed arrays."""
