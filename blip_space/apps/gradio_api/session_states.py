"""What Gradio keeps of each session: the values of its states, and nothing of what its calls have sent and got.

Gradio keeps a copy of every component's configuration for each session, with the last value of each component, so that
a deep link can show them again: 130 kB for every call that names no session, and a history of a megabyte for as long
as a thousand later sessions do not come. This server has no deep links. Depends on Gradio's sessions only.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from gradio.state_holder import SessionState, StateHolder


def install(app: Any) -> None:
    """Let a Gradio app, which serves already, keep sessions as these. Sessions that it has are dropped."""
    states = SessionStates()
    states.set_blocks(app.get_blocks())
    app.state_holder = states


class SessionStates(StateHolder):  # type: ignore[misc]  # mypy does not follow Gradio
    """In place of Gradio's own: the states by session, of which the least recently used are dropped."""

    def __getitem__(self, session: str) -> Any:
        """The state of a session, which is new if there is none."""
        if session not in self.session_data:
            self.session_data[session] = _LightState(self.blocks)
        return super().__getitem__(session)


class _LightState(SessionState):  # type: ignore[misc]
    """A session's state without the configuration of its components."""

    def __init__(self, blocks: Any) -> None:
        super().__init__(SimpleNamespace(default_config=blocks.default_config, blocks={}))
        self.config_values = _Unkept()


class _Unkept(dict[int, Any]):
    """Takes the configuration of any component, and keeps none."""

    def __contains__(self, key: object) -> bool:
        return True

    def __getitem__(self, key: int) -> Any:
        return {}

    def __setitem__(self, key: int, value: Any) -> None:
        pass
