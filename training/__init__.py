"""Makes `assets/tiny`, the embedded model, from nothing: `python -m training`.

The rooms are the story, in the order of the work; imports go up this list only:

- `world/`: pictures and what is in them: everyday things, flat shapes, and what is neither
- `words/`: tables of eighty languages, grammars of eight
- `lessons/`: questions and conversations about a scene, as prompts and answers
- `pupil/`: the model, its tokenizer, and what it is held against while it learns
- `school/`: the stages and their order (`recipe` has every number)
- `exam/`: pictures that it never saw, questions, marks and figures

`evaluate` examines a model folder, `export` writes one, `card` is its README; `examples` and `fixture` draw the page's
and the tests' pictures.

Nothing here is imported by `blip_space`; training uses its `languages` and `prompts`, so what is learned is what is
asked.
"""
