"""What several methods are made of; no methods."""
