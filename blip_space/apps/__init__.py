"""What users start and call: the server with its page and API, the command line, and the Ray cluster.

Must not import torch or transformers.
"""
