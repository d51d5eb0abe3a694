"""The program of the server that the load benchmarks start: `blip_space serve`, and failures that signals cause.

SIGUSR1 ends the engine's thread, SIGUSR2 lets the next step run out of memory; an engine's own process handles both
itself. With `--endless` before the server's own
options no answer ends before its maximum length.
"""

from __future__ import annotations

import signal
import sys
from typing import Any

ENDLESS = "--endless"


class Failures:
    """Which failures the engine's thread has still to raise; set by signals."""

    def __init__(self) -> None:
        self._ends_thread = self._exhausts_memory = False

    def install(self) -> None:
        """Handle the signals, and let the engine look for failures at each step."""
        signal.signal(signal.SIGUSR1, lambda *_: setattr(self, "_ends_thread", True))
        signal.signal(signal.SIGUSR2, lambda *_: setattr(self, "_exhausts_memory", True))
        from blip_space.serving.driver import Driver

        iterate = Driver.iterate

        def iterate_or_end(driver: Driver) -> bool:
            if driver.unfinished and self._ends_thread:
                self._ends_thread = False
                raise SystemExit
            return iterate(driver)

        Driver.iterate = iterate_or_end  # type: ignore[method-assign, assignment]

    def install_in_runner(self) -> None:
        """The same for memory, in a module that imports torch."""
        import torch

        from blip_space.engine.model_runner import ModelRunner

        run = ModelRunner.run

        def run_or_exhaust(runner: ModelRunner, plan: Any) -> None:
            if self._exhausts_memory:
                self._exhausts_memory = False
                raise torch.OutOfMemoryError("a failure that the benchmark has caused")
            run(runner, plan)

        ModelRunner.run = run_or_exhaust  # type: ignore[method-assign, assignment]


def main() -> int:
    """Serve until the process gets SIGTERM."""
    arguments = sys.argv[1:]
    is_endless = ENDLESS in arguments
    _install_failures()
    if is_endless:
        _suppress_stop_tokens()
    from blip_space.apps.cli import main as run_command

    return run_command(["serve", *(argument for argument in arguments if argument != ENDLESS)])


def _install_failures() -> None:
    failures = Failures()
    failures.install()
    failures.install_in_runner()


def _suppress_stop_tokens() -> None:
    from benchmarks.engine import suppress_stop_tokens
    from blip_space.loading import loader

    load_model = loader.load_model

    def load_endless(*arguments: Any, **named: Any) -> Any:
        model = load_model(*arguments, **named)
        suppress_stop_tokens(model)
        return model

    loader.load_model = load_endless


if __name__ == "__main__":
    raise SystemExit(main())
if __name__ == "__mp_main__":  # an engine's own process, which imports the program that has started it
    _install_failures()
