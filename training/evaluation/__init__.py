"""What it has learned: `exam` and `plainstyle` on flat shapes, `everyday_exam` and `distortions` on everyday things,
`marking` marks, `figures` and `gallery` lay out."""
