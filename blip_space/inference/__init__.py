"""Requests become text: the rules of a conversation meet a model.

Knows models and prompts, and introduces them; knows nothing of pages, of terminals or of tensors.

    request    what is asked, its prompt and its budget      text      where growing text may be cut
    judgement  whether a whole answer can stand
    loop       one request in the caller's own thread        answer    a text on its way between two threads
    engine     many visitors in front of one worker          job       a request on its way through it
    worker     what that worker does, turn by turn           scheduler who is written now and who waits
    residence  which model is in memory                      counters  how fast it is, and what was not done twice
    guests     a visitor's batch, beside the conversations   folder    a folder of pictures, by a model of its own
"""
