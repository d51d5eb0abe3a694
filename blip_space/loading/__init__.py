"""A checkpoint becomes a loaded model that is known to use the image.

Depends on torch, transformers and `models`; must not import requests, the engine or pages.

    loader      from a catalogue's row or a folder to a model that is known to use the image
    checkpoint  where a model's files are, and whether all of them are there
    preparation what a request needs of a model before its weights, loaded by itself
    weights     a network of a configuration and weights, whatever wrote them
    precision   which numbers to compute with, and why; quantisation carries it out
    memory      is there room, and for how many keys and values?
    adapter     a LoRA on top of it; adapter_files says where one is
    selftest    does it use the image, its own tokenizer and its own head?
    device, steps, quiet: where it computes, how far loading is, and what libraries would print
"""
