"""What a loaded model does: vision-language models of several families behind one interface.

Depends on torch, transformers, prompts and the catalogue; must not import requests, the engine or what loads a model.

    preparation  what a request needs of a model before its weights: prompts, positions and pixel values; no torch
    interface    what a family owes the engine: image features, embeddings and a decoder
    decoders     transformers' language models as decoders of the two kinds
    families     one module for each family
    tokens, frame, image_processor, chat_template   text, images and conversations in a checkpoint's own form
    cpu, threads, footprint        faster layers on a processor, how many threads, and what weights take
"""
