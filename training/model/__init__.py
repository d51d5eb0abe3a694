"""The model before it has learned: `vocabulary` and `tokenizer`, `network`, `embeddings`; and what it is held against:
`targets`, `codes`, `meaning`. `answers` asks it."""
