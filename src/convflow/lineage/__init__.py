"""Where a registered version comes from, how two of them differ, and whether one can be made anew."""
