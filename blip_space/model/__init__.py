"""Weights become a model that looks at the picture and writes tokens.

The only room that knows torch and transformers. Knows nothing of conversations, prompts, queues or pages.

    precision   which numbers to compute with, and why
    memory      is there room?
    checkpoint  where a model's files are, and whether all of them are there
    loader      from a catalogue's row or a folder to a model that is known to see
    weights     a network of a configuration and weights, whatever wrote them
    adapter     a LoRA on top of it; adapter_files says where one is
    selftest    does it see?
    blip2       one loaded model: encode, stream, search
    writing     many answers written together, on a batch of rows
    features    pictures already encoded
    turns       what was read for earlier turns
    preparation  what a request needs of a model before the model is needed: token ids and pixel values
    frame, tokens, batch, cache, choice, quiet: what loader, blip2 and writing are made of
"""
