"""Benchmarks: one command for each figure and screenshot of the documentation. Nothing else may import this package."""
