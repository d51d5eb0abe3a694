"""The texts of the page; longer texts are in `assets/page/`. Must not import anything of this package."""

from __future__ import annotations

from collections.abc import Mapping

TITLE = "blip-space"

ASK = "Ask"
STOP = "Stop"
QUESTION_LABEL = "Your question"
QUESTION_PLACEHOLDER = "Ask about the image, or leave this empty for a caption"
CONVERSATION_LABEL = "Conversation"
EMPTY_CONVERSATION = "Add an image and ask about it."
IMAGE_LABEL = "Image"
IMAGE_PLACEHOLDER = "Drop an image here\nor click to choose one"
EXAMPLES_LABEL = "Or try one of these"
LANGUAGE_LABEL = "Language of the answer"
LANGUAGE_INFO = "The word after each language says how much mBLIP was trained on it: strong, good, basic or rare."
MODEL_LABEL = "Model"
SETTINGS_LABEL = "Settings"

CAPTION_REQUEST = "Caption this image"
"""What the conversation shows for an empty question."""

WAITING = "…"
WAITING_PATTERN = r"^(…|Waiting: \d+ requests? ahead of you)$"
"""Matches what a reply shows before its first text."""

STILL_ANSWERING = "An answer is still being generated. Wait for it, or press Stop."
MESSAGE_GONE = "That message is no longer in the conversation. Ask again below."

SETTINGS = {
    "max_new_tokens": ("Max new tokens", "The maximum length of the answer; a word is one to three tokens"),
    "temperature": ("Temperature", "0 always picks the most likely token; higher values give more varied answers"),
    "top_p": (
        "Top p",
        "With temperature above 0: sample only from the most likely tokens that add up to this probability",
    ),
    "repetition_penalty": ("Repetition penalty", "Values above 1 reduce repetition"),
    "seed": ("Seed", "With temperature above 0: the same seed gives the same answer"),
}
QUALITY_LABEL = "Decoding"
QUALITY_INFO = "Beam search shows the answer only when it is complete"
QUALITIES = [("Streaming (greedy or sampling)", "stream"), ("Beam search (slower, often better)", "best")]
USE_HISTORY_LABEL = "Use conversation history"
USE_HISTORY_INFO = "Include earlier questions and answers in the prompt"

STAYS_HERE = ", and nothing leaves the operator's machines"
"""The end of the sentence on privacy, unless a model of the server is remote."""

CHAT_TAB = "Chat"
BATCH_TAB = "Batch"
FILES_LABEL = "Images, or a zip of them"
CAPTION_LANGUAGE = "Language of the captions"
BATCH_PROMPT = "Prompt for every image"
BATCH_PROMPT_PLACEHOLDER = "Leave this empty for captions"
BATCH_QUALITIES = [("Best quality (beam search)", "best"), ("Faster (greedy decoding)", "stream")]
START = "Start"
CANCEL = "Cancel (finished captions are kept)"
NO_BATCH = "Captions appear here as they finish. Download them as JSON, CSV or text files."


def batch_limits(*, images: int, file_bytes: int, seconds: float) -> str:
    """What a batch may contain, and how long it may take."""
    return (
        f"Up to {images} images, and up to {file_bytes // 1_000_000} MB for each file or zip. "
        f"A batch stops after {seconds / 60:.0f} minutes and has lower priority than chats."
    )


def batch_result(*, done: int, total: int, errors: int, cancelled: bool) -> str:
    """How a batch ended, and how many images are done or have an error."""
    result = f"{'Cancelled' if cancelled else 'Done'}: {done:,} of {total:,}"
    return f"{result}, {errors} with an error" if errors else result


def not_supported(model: str) -> str:
    """The text that marks a language which `model` does not support."""
    return f"(not supported by {model})"


def budget(used: int, context: int, dropped_turns: int, *, note: str = "") -> str:
    """How much of the context is used, and how many turns are left out. `note` says where the numbers come from."""
    sentence = f"{'About ' if note else ''}{used:,} of {context:,} tokens used"
    if dropped_turns == 1:
        sentence += "; the oldest turn is left out"
    elif dropped_turns:
        sentence += f"; the {dropped_turns:,} oldest turns are left out"
    return f"{sentence}. {note}".rstrip()


def waiting(ahead: int | None) -> str:
    """What a reply shows before its first text. `ahead` is how many requests are ahead of it in the queue."""
    return f"Waiting: {ahead} request{'s' * (ahead > 1)} ahead of you" if ahead else WAITING


def eager_decoding(reason: str, decode_reason: str) -> str:
    """The reason for the precision, and why decode steps are slower than they could be on a GPU."""
    return f"{reason}; CUDA graphs are {decode_reason}"


def throughput(tokens_per_second: float, running: int, waiting: int) -> str:
    """How busy the server is; empty while it is idle."""
    if not running:
        return ""
    sentence = f"{tokens_per_second:.0f} tokens/s, {running} request{'s' * (running > 1)} running"
    return f"{sentence}, {waiting} waiting" if waiting else sentence


def unknown_image(model: str, *, listed: str | None, operator: str) -> str:
    """What to do if `model` does not recognise an image: choose model `listed`, or have model `operator` started."""
    start = f"this server needs another model. The operator can start it with: python app.py --model {operator}"
    way_out = f"choose {listed} above." if listed else start
    return f"{model} recognises some everyday things only. For other images {way_out}"


def memory_needs(sizes: Mapping[str, float], fits: tuple[str, ...] | None) -> str:
    """The memory that a model needs by precision, and the precisions in which it fits (`fits`, None if unknown)."""
    needs = "It needs " + ", ".join(f"{size:g} GB in {precision}" for precision, size in sizes.items())
    if fits is None:
        return f"{needs}."
    return f"{needs}, and {'fits this machine now in ' + ', '.join(fits) if fits else 'does not fit this machine now'}."
