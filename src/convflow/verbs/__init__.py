"""One module per verb of the command line that is no stage."""
