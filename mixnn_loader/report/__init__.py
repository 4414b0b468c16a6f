"""What the loader knows of the data, for people."""
