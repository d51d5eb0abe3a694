"""`python -m benchmarks.engine`: one engine core in this thread, and the time of its decode steps by part.

All sequences run at once, and each has --tokens, since stop tokens are never sampled. Greedy decoding and sampling
alternate, three times each after a warm-up; the results are medians. The time of a step that only decodes, with all
sequences running, is the forward pass of the batch, with its inputs, and the engine's own time: sampling,
detokenization, scheduling. With --json the results are printed as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from benchmarks import devices, report
from benchmarks.baseline import make_image
from blip_space import catalogue
from blip_space.engine.core import EngineCore
from blip_space.engine.pixel_cache import PixelCache
from blip_space.engine.request import EngineConfig, PreparedRequest, Request, prepare
from blip_space.options import GenerationOptions

ROUNDS = 3
QUESTION = "What is in the image?"
UNLIKELY = -1e4
"""A logit that is never sampled, and finite: infinite logits are an error."""


@dataclass(frozen=True)
class Timing:
    """One kind of decoding. Milliseconds are of a decode step, the median and the slowest; `tokens_per_second` counts
    decode steps only, and `with_prefill` the whole run."""

    tokens_per_second: float
    with_prefill: float
    step_ms: float
    slowest_ms: float
    forward_ms: float
    own_ms: float
    ended_early: int


class ForwardTimer:
    """Seconds that the forward passes of a core's decode steps take. A graph does not call the decoder, so the batch is
    timed."""

    def __init__(self, core: EngineCore, *, enabled: bool = True) -> None:
        self.seconds = 0.0
        batch: Any = core._runner._batch
        self._decode: Callable[[Sequence[int]], torch.Tensor] = type(batch).decode.__get__(batch)
        batch.decode = self._timed if enabled else self._decode

    def _timed(self, tokens: Sequence[int]) -> torch.Tensor:
        started = time.perf_counter()
        logits = self._decode(tokens)
        devices.synchronize(logits.device)
        self.seconds += time.perf_counter() - started
        return logits


def suppress_stop_tokens(model: Any) -> None:
    """Make the stop tokens of the model too unlikely to be sampled, so every answer has the maximum length."""
    stop = torch.tensor(sorted(model.stop_token_ids), dtype=torch.long, device=model.decoder.device)
    forward = model.decoder.forward

    def forward_without_stop(*arguments: Any, **named: Any) -> torch.Tensor:
        logits: torch.Tensor = forward(*arguments, **named)
        return logits.index_fill_(-1, stop, UNLIKELY)

    model.decoder.forward = forward_without_stop


def main() -> None:
    """Measure and print."""
    args = _arguments()
    model = devices.load_model(catalogue.find_model(args.model, folders=True), args.precision, args.device)
    suppress_stop_tokens(model)
    greedy = GenerationOptions(max_new_tokens=args.tokens)
    sampled = replace(
        greedy, temperature=args.temperature, top_p=args.top_p, repetition_penalty=args.repetition_penalty
    )
    kinds = {"greedy": greedy, "sampled": sampled}
    runs: dict[str, list[Timing]] = {name: [] for name in kinds}
    for round_ in range(ROUNDS + 1):
        for name, options in kinds.items():
            timing = measure(model, options, args.sequences)
            if round_:
                runs[name].append(timing)
    figures = {name: median(timings) for name, timings in runs.items()}
    ratio = figures["sampled"].tokens_per_second / figures["greedy"].tokens_per_second
    if args.json:
        print(
            json.dumps(_figures(args, model) | {name: asdict(row) for name, row in figures.items()} | {"ratio": ratio})
        )
    else:
        machine = report.machine(model.precision.device)
        print(table(f"{_title(args, model)}, {machine}", figures, sampled, ratio))


def measure(
    model: Any, options: GenerationOptions, sequences: int, *, slots: bool | None = None, question: str = QUESTION
) -> Timing:
    """Run all sequences from the first step to the last, on a core with empty caches."""
    return measure_core(new_core(model, sequences, slots=slots), options, sequences, question=question)


def new_core(model: Any, sequences: int, *, slots: bool | None = None) -> EngineCore:
    """A core for that many sequences; where `slots` is None, the device and the environment decide."""
    config = EngineConfig(max_batch_size=sequences, max_waiting=sequences)
    return EngineCore(model, config if slots is None else replace(config, slots=slots))


def measure_core(
    core: EngineCore, options: GenerationOptions, sequences: int, *, question: str = QUESTION, time_forward: bool = True
) -> Timing:
    """Run all sequences on that core, from the first step to the last. Without `time_forward` nothing waits for a GPU
    that a server would not wait for, and the whole step counts as the engine's own time."""
    timer = ForwardTimer(core, enabled=time_forward)
    ids = [core.add(request) for request in prepare_requests(core.model, options, sequences, question)]
    tokens = dict.fromkeys(ids, 0)
    steps, forwards, decoded = list[float](), list[float](), 0
    run_started = time.perf_counter()
    while core.has_work:
        before, timer.seconds, started = sum(tokens.values()), 0.0, time.perf_counter()
        decodes = min(tokens.values()) > 0 and max(tokens.values()) < options.max_new_tokens
        outputs = core.step(time.monotonic())
        spent = time.perf_counter() - started
        for output in outputs:
            if output.error is not None:
                raise output.error
            tokens[output.id] = output.tokens
        if decodes and (new := sum(tokens.values()) - before):
            steps.append(spent)
            forwards.append(timer.seconds)
            decoded += new
    seconds = time.perf_counter() - run_started
    devices.capture_graphs(core)
    own = [step - forward for step, forward in zip(steps, forwards, strict=True)]
    return Timing(
        tokens_per_second=decoded / sum(steps),
        with_prefill=sum(tokens.values()) / seconds,
        step_ms=1000 * statistics.median(steps),
        slowest_ms=1000 * max(steps),
        forward_ms=1000 * statistics.median(forwards),
        own_ms=1000 * statistics.median(own),
        ended_early=sum(count < options.max_new_tokens for count in tokens.values()),
    )


def prepare_requests(
    model: Any, options: GenerationOptions, sequences: int, question: str = QUESTION
) -> list[PreparedRequest]:
    """One question about each of as many images, each with its own seed."""
    requests = [
        Request(make_image(index), question, options=replace(options, seed=index)) for index in range(sequences)
    ]
    return [prepare(request, model.preparation, PixelCache(0)) for request in requests]


def median(timings: Sequence[Timing]) -> Timing:
    """The median of each result; of `ended_early` the maximum."""
    rows = [asdict(timing) for timing in timings]
    figures = {name: statistics.median(row[name] for row in rows) for name in rows[0] if name != "ended_early"}
    return Timing(**figures, ended_early=max(timing.ended_early for timing in timings))


def table(title: str, figures: dict[str, Timing], sampled: GenerationOptions, ratio: float) -> str:
    """The results as Markdown."""
    lines = [
        f"| {name} | {row.tokens_per_second:,.0f} | {row.with_prefill:,.0f} | {row.step_ms:.2f} | {row.forward_ms:.2f} "
        f"| {row.own_ms:.2f} | {row.ended_early or ''} |"
        for name, row in figures.items()
    ]
    sampling = f"temperature {sampled.temperature:g}, top_p {sampled.top_p:g}, penalty {sampled.repetition_penalty:g}"
    return "\n".join(
        [
            title,
            "",
            "| decoding | tokens/s | with prefill | step, ms | forward, ms | engine, ms | ended early |",
            "|---|--:|--:|--:|--:|--:|--:|",
            *lines,
            "",
            f"sampled ({sampling}) to greedy: {ratio:.2f}",
        ]
    )


def _title(args: argparse.Namespace, model: Any) -> str:
    return f"`{args.model}` in {model.precision.name}, {args.sequences} sequences of {args.tokens} tokens"


def _figures(args: argparse.Namespace, model: Any) -> dict[str, Any]:
    return {
        "machine": report.machine(model.precision.device),
        "load": os.getloadavg()[0],
        "dtype": model.precision.name,
    } | vars(args)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument("--model", default="tiny", help="a name from the catalogue, or a folder")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--device", default="auto", help="auto, cpu, or a GPU such as cuda:0")
    parser.add_argument("--sequences", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=150)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--top-p", type=float, default=0.9)
    parser.add_argument("--repetition-penalty", type=float, default=1.0)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
