"""A run that was stopped, taken up where it was."""
