"""Trains `assets/tiny`, the embedded model, from random weights: `python -m training`.

The packages, in the order of the pipeline; a package imports only from those above it:

- `scenes/`: images and their contents: everyday objects, flat shapes, out-of-distribution images
- `lexicon/`: tables of words in eighty languages, grammars of eight
- `tasks/`: questions and dialogues about a scene, as prompts and answers
- `model/`: the architecture, the tokenizer, auxiliary heads and their targets
- `stages/`: the pretraining stages and their order (their numbers are in `recipe`)
- `evaluation/`: questions on held-out images, scores and tables

`evaluate` evaluates a model folder, `export` writes one, `card` writes its README; `examples` and `fixture` render the
images of the page and of the tests.

`blip_space` must not import this package, which uses its `languages` and `prompts`, so that prompts are as in serving.
"""
