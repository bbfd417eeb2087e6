"""Jobs on a Ray cluster that is somewhere else: submitted, watched and read through Ray Jobs."""
