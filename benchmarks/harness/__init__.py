"""What all methods are trained and measured with."""
