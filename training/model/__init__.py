"""The model: `architecture` with auxiliary heads, `vocabulary`, `tokenizer`, initial `embeddings`; the targets of the
auxiliary losses (`targets`, `codebook`, `question_targets`); and `generation`."""
