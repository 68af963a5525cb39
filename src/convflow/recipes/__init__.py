"""Parts of params.yaml that more than one section has: a stage adds its own keys to them."""
