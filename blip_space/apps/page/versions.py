"""Keeps every version of a turn that is asked again or edited, so that the page can step through them.

A version is the question, its answer and all that followed. The shown version is the conversation itself; the others
are facts of its question: `others` has each as a list of `{"role", "content", "facts"}`, in the order in which they
were asked, `shown` is the place of the shown one among all, counted from 0, and `previous` the place of the one that
was shown before it. `versions.js` steps from one to another, without the server.

Depends on messages only. Must not import Gradio.
"""

from __future__ import annotations

import json
from typing import Any

from blip_space.apps.page.messages import Message, content_of, facts_of, with_facts

MAX_VERSIONS = 8
"""How many versions of a turn are kept, the newest. They travel with every call of the page."""

MAX_BYTES = 500_000
"""How large the versions that are not shown may be, as JSON."""

FACTS = ("others", "shown", "previous")


def replace_turn(turn: list[Message], question: Message) -> Message:
    """The question that replaces a `turn` and all that followed it, with these as another version."""
    facts = facts_of(turn[0])
    others = facts.get("others")
    others = [version for version in others if isinstance(version, list)] if isinstance(others, list) else []
    place = facts.get("shown")
    place = place if isinstance(place, int) and 0 <= place <= len(others) else len(others)
    versions = [*others[:place], _packed(turn), *others[place:]]
    kept = versions[1 - MAX_VERSIONS :]
    while len(kept) > 1 and len(json.dumps(kept)) > MAX_BYTES:
        kept = kept[1:]
    previous = max(0, place - (len(versions) - len(kept)))
    own = _without_versions(facts_of(question))
    return with_facts(question, {**own, "others": kept, "shown": len(kept), "previous": previous})


def _packed(turn: list[Message]) -> list[dict[str, Any]]:
    """The messages of a version. The other versions are no part of it, but those of later questions are."""
    facts = [_without_versions(facts_of(turn[0])), *map(facts_of, turn[1:])]
    return [
        {"role": message.get("role"), "content": content_of(message), "facts": own}
        for message, own in zip(turn, facts, strict=True)
    ]


def _without_versions(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if name not in FACTS}
