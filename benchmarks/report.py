"""What the serving benchmark found, as a table and as a plot, and what it ran on."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch
import transformers


def table(report: dict[str, Any]) -> str:
    """The README's table."""
    head = (
        "| users | cards' tokens/s | ours | ratio | first token of later turns | whole first answer | equal tokens "
        "| memory |\n"
        "|--:|--:|--:|--:|--:|--:|--:|--:|"
    )
    lines = [
        f"| {row['users']} | {row['cards_tokens_per_second']:.2f} | {row['ours_tokens_per_second']:.2f} "
        f"| {row['ratio_tokens_per_second']:.1f}× | {row['first_token_ratio_later_turns']:.2f}× "
        f"| {row['first_turn_ratio']:.2f}× | {100 * row['tokens_equal']:.1f} % "
        f"| {row['memory_gigabytes']:.2f} GB |"
        for row in report["rows"]
    ]
    title = f"`{report['model']}` in {report['dtype']}, {report['machine']}"
    return "\n".join([title, "", head, *lines])


def plot(report: dict[str, Any], file: Path) -> None:
    """Tokens a second against users."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for name, key in (("model cards' loop", "cards"), ("blip-space", "ours")):
        points = [(row["users"], row[f"{key}_tokens_per_second"]) for row in report["rows"]]
        axes.plot(*zip(*points, strict=True), marker="o", label=name)
    axes.set(title=report["model"], xlabel="users at once", ylabel="tokens a second", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, dpi=100)


def machine() -> str:
    """What it ran on."""
    return (
        f"{torch.get_num_threads()} threads of {platform.machine()}, Python {platform.python_version()}, "
        f"torch {torch.__version__.split('+')[0]}, transformers {transformers.__version__}"
    )
