"""Evaluation: questions on `flat_shapes` (also in an `unseen_style`) and on `everyday_objects` (also under hard
`conditions`), `scoring`, and the card's `tables` and `example_images`."""
