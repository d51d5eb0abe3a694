"""Weights become a model that looks at the picture and writes tokens.

The only room that knows torch and transformers. Knows nothing of conversations, prompts, queues or pages.

    precision   which numbers to compute with, and why
    memory      is there room?
    checkpoint  where a model's files are, and whether all of them are there
    loader      from a catalogue's row or a folder to a model that is known to see
    selftest    does it see?
    blip2       one loaded model: encode, stream, search
    features    pictures already encoded
    frame, tokens, steps, choice, quiet: what loader and blip2 are made of
"""
