"""Pretraining: the training `loop` with `batches`, `checkpoints`, `distributed` and `progress`; the stages
`vision_encoder`, `qformer`, `language_model` and `joint`; and the `pipeline`, which runs them."""
