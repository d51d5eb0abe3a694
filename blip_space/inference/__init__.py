"""Many images: each becomes a line, with what was asked of it.

    folder   a folder of images, captioned by an engine core in its own thread or by a cluster's workers
    guests   the images of one upload, captioned by a serving engine beside the conversations

Depends on serving and on the engine; must not import apps.
"""
