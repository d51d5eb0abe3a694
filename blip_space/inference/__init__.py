"""Requests become text: the rules of a conversation meet a model.

Knows models and prompts, and introduces them; knows nothing of pages, of terminals or of tensors.

    request  what is asked, its prompt and its budget      text    where growing text may be cut
    loop     one request in the caller's own thread        answer  a text on its way between two threads
    engine   many visitors, one worker, one model
"""
