"""Makes `assets/tiny`, the embedded model, from nothing: `python -m training`.

The listing is the story, in the order of the work:

- where it comes from: `sources` (icon sets and CLDR, fetched once), `concepts`, `sprites`, `names`
- the world: `world` mixes flat shapes (`colours`, `scenes`, `layouts`, `drawing`), everyday things (`everyday`,
  `pasting`) and pictures of neither (`strangers`)
- the words: `words/` (tables of eighty languages, grammars of eight), `questions` and `dialogues` for those with a
  grammar, `plainly` for all, `speech` (either of them), `lessons` (what is asked and answered)
- the pupil: `vocabulary`, `tokenizer`, `network`, `embeddings`; what it is held against: `targets`, `codes`, `meaning`
- the school: `recipe`, `school`, `stages`, `batches`, `checkpoints`, `progress`
- its classes: `vision`, `sight`, `text`, `joint`
- the exam: `exam` and `plainstyle` (flat shapes), `everyday_exam`, `distortions`, `marking`, `figures`, `gallery`
- the result: `export`, `answers`, `evaluate`, `card`, and what is drawn for others: `examples`, `fixture`

Nothing here is imported by `blip_space`; training uses its `languages` and `prompts`, so what is learned is what is
asked.
"""
