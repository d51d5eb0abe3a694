"""What several benchmarks use: the machine, peak memory, and the table and the plot of the serving benchmark."""

from __future__ import annotations

import platform
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers


class PeakMemory:
    """The peak of this process's memory in bytes, relative to the start of the measurement; on a CUDA GPU that of the
    GPU's memory. `others` lists the processes whose memory is added."""

    def __init__(self, device: str = "cpu", others: Callable[[], Sequence[int]] = tuple) -> None:
        self.increase = 0
        self._others = others
        self._device, self._done = torch.device(device), threading.Event()

    @contextmanager
    def measured(self, interval_seconds: float = 0.05) -> Iterator[None]:
        """Measure until the context ends."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            before = torch.cuda.memory_allocated(self._device)
            yield
            self.increase = torch.cuda.max_memory_allocated(self._device) - before
            return
        thread = threading.Thread(target=self._measure, args=(interval_seconds,))
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join()

    def _measure(self, interval_seconds: float) -> None:
        import psutil  # a machine with a GPU may lack it

        def memory_of(pid: int | None = None) -> int:
            try:
                return int(psutil.Process(pid).memory_info().rss)
            except psutil.NoSuchProcess:
                return 0

        before = memory_of()
        while not self._done.wait(interval_seconds):
            self.increase = max(self.increase, memory_of() + sum(map(memory_of, self._others())) - before)


def table(report: dict[str, Any]) -> str:
    """The results as Markdown."""
    head = (
        "| users | baseline tokens/s | blip-space tokens/s | ratio | first token of later turns | first answer "
        "| equal tokens | memory |\n"
        "|--:|--:|--:|--:|--:|--:|--:|--:|"
    )
    lines = [
        f"| {row['users']} | {row['baseline_tokens_per_second']:.2f} | {row['blip_space_tokens_per_second']:.2f} "
        f"| {row['ratio_tokens_per_second']:.1f}× | {row['first_token_ratio_later_turns']:.2f}× "
        f"| {row['first_turn_ratio']:.2f}× | {100 * row['tokens_equal']:.1f} % "
        f"| {row['memory_gigabytes']:.2f} GB |"
        for row in report["rows"]
    ]
    title = f"`{report['model']}` in {report['dtype']}, {report['machine']}"
    return "\n".join([title, "", head, *lines])


def plot(report: dict[str, Any], file: Path) -> None:
    """Tokens per second by the number of users."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for name, key in (("baseline", "baseline"), ("blip-space", "blip_space")):
        points = [(row["users"], row[f"{key}_tokens_per_second"]) for row in report["rows"]]
        axes.plot(*zip(*points, strict=True), marker="o", label=name)
    axes.set(title=report["model"], xlabel="users at once", ylabel="tokens per second", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, dpi=100)


def machine(device: str = "cpu") -> str:
    """The machine, its GPU if that is the device, and the versions that a benchmark ran with."""
    where = f"{torch.get_num_threads()} threads of {platform.machine()}"
    if device.startswith("cuda"):
        gpu = torch.cuda.get_device_properties(torch.device(device))
        where = f"{gpu.name} ({gpu.total_memory / 2**30:.0f} GiB), CUDA {torch.version.cuda}, {where}"
    return (
        f"{where}, Python {platform.python_version()}, torch {torch.__version__.split('+')[0]}, "
        f"transformers {transformers.__version__}"
    )
