"""Tests of the training: its world, its words, the run at a small scale, and the model that it left."""
