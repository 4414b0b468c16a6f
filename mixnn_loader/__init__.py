"""MixNN as a drop-in wrapper around a PyTorch data loader."""
