"""Evaluation: questions on `flat_shapes` (also in an `unseen_style`), on `everyday_objects` (also under hard
`conditions`), in plain wordings (`plain_questions`) and on `photographs`, `scoring`, and the card's `tables` and
`example_images`."""
