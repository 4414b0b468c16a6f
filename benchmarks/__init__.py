"""Benchmarks: the methods side by side on one harness, and what the library itself costs."""
