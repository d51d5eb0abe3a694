"""Lets people in: by browser and API (`page`, `server`, `uploads`, `archive`) and by command (`cli`).

Knows nothing of torch.
"""
