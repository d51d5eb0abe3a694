"""Vision-language models of several families behind one interface.

Depends on torch, transformers, `prompts` and `catalogue`. Must not import requests, the engine or the loader.
"""
