"""What frameworks need besides the loader. Each is in a file of its own, which imports the framework."""
