"""The images to train on: downloads (`sources`, `concepts`, `names`, `sprites`), flat shapes (`colours`, `layouts`,
`scene`, `rendering`), everyday objects (`everyday`, `sprite_cache`), `out_of_distribution`, and their `mixture`."""
