"""Tests of `training`: scenes, lexicons, a run of the smoke recipe, and the embedded model."""
