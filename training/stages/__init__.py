"""Pretraining: the `loop`, `batches`, `checkpoints`, `progress`; the stages `vision_encoder`, `qformer`,
`language_model` and `joint`; and the `pipeline` of them all."""
