"""What the page says. Texts only; longer ones lie in `assets/page/`."""

from __future__ import annotations

from collections.abc import Sequence

from blip_space.catalogue import ModelSpec, most_multilingual_model
from blip_space.images import MAX_UPLOAD_BYTES
from blip_space.jobs.folder_job import JobProgress
from blip_space.jobs.upload_archive import MAX_IMAGES
from blip_space.jobs.upload_job import MAX_SECONDS

TITLE = "blip-space"
LARGE_PARAMETERS = 100_000_000

ASK = "Ask"
STOP = "Stop"
QUESTION_LABEL = "Your question"
QUESTION_PLACEHOLDER = "Ask about the picture, or leave this empty for a caption"
CONVERSATION_LABEL = "Conversation"
EMPTY_CONVERSATION = "Add a picture and ask about it."
IMAGE_LABEL = "Picture"
IMAGE_PLACEHOLDER = "Drop a picture here\nor click to choose one"
EXAMPLES_LABEL = "Or try one of these"
LANGUAGE_LABEL = "Language of the answer"
MODEL_LABEL = "Model"
SETTINGS_LABEL = "How answers are written"

CAPTION_REQUEST = "Caption this picture"
"""How a question without words reads in the conversation."""

WAITING = "…"

STILL_ANSWERING = "An answer is still being written. Wait for it, or press Stop."
MESSAGE_GONE = "That message is no longer in the conversation. Ask again below."

SETTINGS = {
    "max_new_tokens": ("Longest answer", "in tokens; a word is about one to three"),
    "temperature": ("Temperature", "0 takes the likeliest word each time, more is livelier"),
    "top_p": ("Top p", "with a temperature: choose among the likeliest words that hold this share"),
    "repetition_penalty": ("Repetition penalty", "above 1 repeats less"),
    "seed": ("Seed", "with a temperature: the same seed gives the same answer"),
}
QUALITY_LABEL = "Decoding"
QUALITY_INFO = "beam search shows the answer when it is whole"
QUALITIES = [("Streaming (greedy or sampling)", "stream"), ("Beam search (slower, often better)", "best")]
USE_HISTORY_LABEL = "Earlier turns"
USE_HISTORY_INFO = "tell the model what was said before"


CHAT_TAB = "Chat"
BATCH_TAB = "Batch"
FILES_LABEL = "Pictures, or a zip of them"
BATCH_LIMITS = (
    f"Up to {MAX_IMAGES} pictures; each file, a zip as well, up to {MAX_UPLOAD_BYTES // 1_000_000} MB. "
    f"A batch ends after {MAX_SECONDS / 60:.0f} minutes at the latest, and lets conversations go first."
)
CAPTION_LANGUAGE = "Language of the captions"
BATCH_PROMPT = "What to ask of each"
BATCH_PROMPT_PLACEHOLDER = "Leave this empty for captions"
BATCH_QUALITIES = [("Best quality (beam search)", "best"), ("Faster (streaming)", "stream")]
START = "Caption them"
CANCEL = "Cancel, and keep what is done"
NO_BATCH = "Captions appear here one by one. Take them home as JSON, CSV or text files."


def batch_result(tally: JobProgress) -> str:
    """What came of a batch."""
    failed = len(tally.errors)
    words = f"{'Cancelled' if tally.cancelled else 'Done'}: {tally.done:,} of {tally.total:,}"
    return f"{words}, {failed} of them with an error" if failed else words


def not_supported(model: str) -> str:
    """The mark of a language that the model does not speak."""
    return f"(not spoken by {model})"


def budget(used: int, window: int, dropped_turns: int) -> str:
    """How full the window is, and what no longer fits."""
    line = f"{used:,} of {window:,} tokens"
    if dropped_turns == 1:
        return f"{line}, the oldest turn no longer fits"
    return f"{line}, the {dropped_turns:,} oldest turns no longer fit" if dropped_turns else line


def waiting(ahead: int | None) -> str:
    """Stands for a reply that has no words yet: how many are answered before it, if any."""
    return f"{WAITING} ({ahead} before you)" if ahead else WAITING


def throughput(tokens_per_second: float, running: int, line: int) -> str:
    """How busy the server is, in a few words; nothing while nobody asks."""
    if not running:
        return ""
    words = f"{tokens_per_second:.0f} tokens/s, {running} answer{'s' * (running > 1)} being written"
    return f"{words}, {line} waiting" if line else words


def unknown_image(model: str, others: Sequence[str]) -> str:
    """What helps when the model does not know a picture."""
    start = f"start it with another: python app.py --model {most_multilingual_model()}"
    way_out = f"choose {others[0]} above" if others else start
    return f"{model} knows drawings only, as said below. For photographs {way_out}."


def memory_needs(spec: ModelSpec, fits: tuple[str, ...] | None) -> str:
    """How large the model is in each precision, and in which of them it fits; nothing of one that fits anywhere."""
    if spec.parameters < LARGE_PARAMETERS:
        return ""
    sizes = ", ".join(f"{size:g} GB in {name}" for name, size in spec.memory_gb.items())
    if fits is None:
        return f"It needs {sizes}."
    here = f"fits this machine now in {', '.join(fits)}" if fits else "does not fit this machine now"
    return f"It needs {sizes}, and {here}."
