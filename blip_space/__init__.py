"""Chat about an image in 96 languages: the BLIP-2 family behind a page, an API and a command line.

Three wings on one ground floor, and imports only go down:

    apps/        lets people in: page, server, command line, cluster
    inference/   turns requests into text: one worker, one line of requests
    model/       turns weights into a model that looks at the picture
    prompts, settings, languages, options, images, catalogue, errors
                 facts and rules; nothing here needs torch
"""

__version__ = "0.1.0"
