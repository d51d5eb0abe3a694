"""`python -m benchmarks.gpu`: everything that a machine with a GPU has to show, in one run of a few minutes."""
