"""Lets people in: by browser and API (`page`, `server`, `uploads`) and by command (`cli`). Knows nothing of torch."""
