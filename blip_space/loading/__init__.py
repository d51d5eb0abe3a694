"""Weights become a model that looks at the picture.

Depends on torch and transformers; must not import requests, prompts, the engine or pages.

    precision   which numbers to compute with, and why
    memory      is there room?
    checkpoint  where a model's files are, and whether all of them are there
    loader      from a catalogue's row or a folder to a model that is known to see
    weights     a network of a configuration and weights, whatever wrote them
    adapter     a LoRA on top of it; adapter_files says where one is
    selftest    does it see?
    blip2       one loaded model: image features and embeddings
    preparation what a request needs of a model before the model is needed: token ids and pixel values
    frame, tokens, cpu, quiet: what loader and blip2 are made of
"""
