"""The training images: flat shapes (`colours`, `layouts`, `scene`, `rendering`); everyday objects (`sources`, `names`,
`concepts`, `sprites`, `sprite_cache`, `everyday`); images that are `out_of_distribution`; and their `mixture`."""
