"""The user's loader and dataset."""
