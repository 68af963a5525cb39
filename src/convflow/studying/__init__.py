"""Studies: one question, many splits, all models on the same ones, statistics that allow for the overlap."""
