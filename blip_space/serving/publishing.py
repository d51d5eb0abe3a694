"""Passes the outputs of a core on to the readers of its answers. Depends on outputs, tasks and metrics only."""

from __future__ import annotations

import time
from collections.abc import Iterable

from blip_space.engine.output import Output
from blip_space.serving.metrics import Metrics
from blip_space.serving.response import ResponseStream
from blip_space.serving.task_queue import GenerationTask


def publish(response: ResponseStream, output: Output) -> None:
    """Pass an output on to the reader."""
    if output.error is not None:
        response.fail(output.error)
        return
    response.tokens, response.repeats = output.tokens, output.repeats
    response.publish(output.text, finished=output.finished)


def publish_step(outputs: Iterable[tuple[Output, GenerationTask | None]], metrics: Metrics) -> None:
    """Pass the outputs of one step on, except those of tasks that are cancelled, and count their tokens."""
    tokens, first_tokens = 0, list[float]()
    for output, task in outputs:
        if task is None:
            continue
        new_tokens = max(0, output.tokens - task.counted_tokens)
        if new_tokens and _shows_first_token(task, output):
            first_tokens.append(time.monotonic() - task.arrived_at)
        tokens += new_tokens
        task.counted_tokens += new_tokens
        publish(task.response, output)
    if tokens:
        metrics.add(tokens, first_tokens)


def _shows_first_token(task: GenerationTask, output: Output) -> bool:
    """Whether this output shows a user the first token of an answer; a beam search shows nothing before its end."""
    is_streamed = not task.request.background and task.request.options.quality == "stream"
    return is_streamed and not task.counted_tokens and output.error is None
