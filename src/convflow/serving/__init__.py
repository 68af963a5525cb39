"""Networks as ONNX files: what vouches for them, who answers, and how they get small."""
