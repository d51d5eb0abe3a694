"""Makes `assets/tiny`, the embedded model, from nothing: `python -m training`.

The listing is the story, in the order of the work:

- the world: `colours`, `scenes`, `layouts`, `drawing` (a picture and what is in it), `plainstyle` (the exam's own hand)
- the words: `words/` (one module a language), `questions`, `dialogues`, `lessons` (what is asked and answered)
- the next world, of everyday things in eighty languages, which no checkpoint has learned yet: `sources`, `concepts`,
  `sprites`, `names`, `words/plain` and its tables
- the pupil: `tokenizer`, `network`, and what it is held against: `targets`, `codes`, `meaning`
- the school: `recipe`, `school`, `stages`, `batches`, `checkpoints`, `progress`
- its classes: `vision`, `sight`, `text`, `joint`
- the result: `export`, `answers`, `exam`, `evaluate`, `card`

Nothing here is imported by `blip_space`; training uses its `languages` and `prompts`, so what is learned is what is
asked.
"""
