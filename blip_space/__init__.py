"""Chat about an image in 96 languages: the BLIP-2 family behind a page, an API and a command line.

Imports only go down:

    apps/        the ways in: page, server, command line, cluster
    jobs/        many images: a folder, the images of one upload
    serving/     many users: a thread that drives a core for each loaded model
    engine/      requests become tokens and text, without a thread or a clock
    loading/     a checkpoint becomes a loaded model that is known to use the image
    models/      what a loaded model does: the interface of a family, and the families
    prompts, history, settings, languages, options, images, catalogue, errors
                 facts and rules; nothing here needs torch
"""

__version__ = "0.1.0"
