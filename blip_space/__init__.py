"""Chat about an image in 96 languages: a library, a page, an API and a command line for vision-language models.

    import blip_space

    with blip_space.load("tiny") as engine:
        print(engine.ask("octopus.png", "What is this?"))

Imports only go down:

    library      load and Engine
    apps/        the ways in: page, Gradio API, command line, cluster
    jobs/        many images: a folder, the images of one upload
    serving/     many users: a thread that drives an engine core for each loaded model
    engine/      requests become tokens and text, without a thread or a clock
    loading/     a checkpoint becomes a loaded model that is known to use the image
    models/      what a loaded model does: the interface of a family, and the families
    catalogue, prompts, settings, languages, options, history, images, errors
                 rules and facts; nothing here needs torch
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from blip_space.errors import BusyError, DeviceError, EmptyAnswerError, ImageError, ModelError, PromptError, UserError

if TYPE_CHECKING:
    from blip_space.library import Engine, load
    from blip_space.options import GenerationOptions

__all__ = [
    "BusyError",
    "DeviceError",
    "EmptyAnswerError",
    "Engine",
    "GenerationOptions",
    "ImageError",
    "ModelError",
    "PromptError",
    "UserError",
    "load",
]
__version__ = "0.1.0"

_PACKAGE = Path(__file__).resolve().parent
ASSETS = _PACKAGE / "assets" if (_PACKAGE / "assets").is_dir() else _PACKAGE.parent / "assets"
"""The embedded model, the examples and the page's files: beside the package in a checkout, inside it in a wheel."""


def __getattr__(name: str) -> Any:
    """Import `Engine`, `load` and `GenerationOptions` when they are first used, so that commands without them start
    faster."""
    if name in ("Engine", "load"):
        from blip_space import library

        return getattr(library, name)
    if name == "GenerationOptions":
        from blip_space.options import GenerationOptions

        return GenerationOptions
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
