"""`python -m benchmarks.serving --model opt-2.7b-random`: conversations with the baseline and with blip-space's engine.

Both get the same weights, images and prompts in one run. The baseline (processor, then `generate`, one request at a
time) is timed once; for fewer users its first conversations count, since it serves users one by one. Prints a table;
--json and --plot save the results. In fp32 every token must agree, or the exit code is 1. With --device it runs on a
GPU; there the memory is the GPU's.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import torch

from benchmarks import random_weights, report
from benchmarks.baseline import Turn, disable_stopping, load, optimize, run_conversation
from blip_space.engine.request import EngineConfig, Request
from blip_space.loading.device import find_device
from blip_space.models.interface import VisionLanguageModel
from blip_space.serving.threaded import ThreadedEngine

TIMEOUT_SECONDS = 36_000.0

Result = TypeVar("Result")
Answer = tuple[str, float, float]
"""The text, the seconds until it is complete, and those until its first token."""


@dataclass(frozen=True)
class Row:
    """One row of the table. Ratios are blip-space to baseline; `tokens_equal` is a fraction; the memory is the peak
    increase of the process, or of the GPU, after loading."""

    users: int
    turns: int
    new_tokens: int
    baseline_tokens_per_second: float
    blip_space_tokens_per_second: float
    ratio_tokens_per_second: float
    first_token_ratio_later_turns: float
    first_turn_ratio: float
    tokens_equal: float
    memory_gigabytes: float


def main() -> int:
    """Run both, compare, and print a table."""
    args = _arguments()
    users = [int(number) for number in args.users.split(",")]
    model, baseline = run_in_thread(lambda: _run_baseline(args, max(users)))
    rows = []
    for count in users:
        print(f"{args.model}: blip-space, {count} users at once", flush=True)
        rows.append(compare(model, baseline[:count], args.new_tokens))
        print(json.dumps(asdict(rows[-1])), flush=True)
    results = {
        "machine": report.machine(model.precision.device),
        "model": args.model,
        "dtype": model.precision.name,
        "rows": list(map(asdict, rows)),
    }
    print(report.table(results))
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if args.plot:
        report.plot(results, args.plot)
    return int(model.precision.name == "fp32" and any(row.tokens_equal < 1 for row in rows))


def _run_baseline(args: argparse.Namespace, users: int) -> tuple[VisionLanguageModel, list[list[Turn]]]:
    """The conversations of the baseline, and the model, to which the loader's kernels are applied afterwards."""
    torch.set_num_threads(args.threads)
    hf_model, tokenizer, model = load(args.model, args.precision, args.device)
    disable_stopping(hf_model, model)
    print(f"{args.model}: baseline, {users} conversations of {args.turns} turns", flush=True)
    conversations = [
        run_conversation(hf_model, tokenizer, model, user, args.turns, args.new_tokens) for user in range(users)
    ]
    optimize(hf_model, model)
    return model, conversations


def run_in_thread(function: Callable[[], Result]) -> Result:
    """Call the function in a new thread that ends afterwards.

    Each thread that computes has its own OpenMP threads; with more of them than CPUs all of them sleep instead of
    spinning while they wait, which costs a tenth of a step or more. So none may be left for the next computation.
    """
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(function).result()


def compare(model: VisionLanguageModel, baseline: Sequence[list[Turn]], new_tokens: int) -> Row:
    """Run the same conversations in the engine; each user asks the next question as soon as an answer is complete."""
    memory = report.PeakMemory(model.precision.device)
    with running(new_engine(model, EngineConfig(timeout_seconds=TIMEOUT_SECONDS))) as engine:

        def converse(user: int) -> list[Answer]:
            return [ask(engine, turn.request) for turn in baseline[user]]

        with memory.measured():
            started = time.monotonic()
            answers = run_users(converse, len(baseline))
            seconds = time.monotonic() - started
    return _row(baseline, answers, seconds, new_tokens, memory.increase)


def new_engine(model: VisionLanguageModel, config: EngineConfig) -> ThreadedEngine:
    """An engine for a model whose weights are loaded."""
    return ThreadedEngine(
        [model.spec],
        load=lambda *_: model,
        load_preparation=lambda _: model.preparation,
        find_memory=lambda: (find_device(), None),
        config=config,
    )


@contextmanager
def running(engine: ThreadedEngine) -> Iterator[ThreadedEngine]:
    """Start the engine, and stop it at the end."""
    engine.start()
    try:
        wait_until_ready(engine)
        yield engine
    finally:
        engine.stop()


def wait_until_ready(engine: ThreadedEngine) -> None:
    """Wait until the model is loaded."""
    while (state := engine.status()).status != "ready":
        if state.status == "failed":
            raise SystemExit(state.error)
        time.sleep(0.01)


def ask(engine: ThreadedEngine, request: Request) -> Answer:
    """The text of the answer, its seconds, and those until its first token."""
    started, first, answer = time.monotonic(), 0.0, ""
    for text in engine.submit(request).updates():
        first, answer = first or time.monotonic() - started, text
    return answer, time.monotonic() - started, first


def run_users(converse: Callable[[int], Result], users: int) -> list[Result]:
    """What `converse` returns for each user, all at once; an error of one is raised."""
    with ThreadPoolExecutor(max_workers=users) as threads:
        return list(threads.map(converse, range(users)))


def _row(
    baseline: Sequence[list[Turn]], answers: Sequence[list[Answer]], seconds: float, new_tokens: int, memory_bytes: int
) -> Row:
    turns = len(baseline[0])
    tokens = len(baseline) * turns * new_tokens
    baseline_seconds = sum(turn.seconds for conversation in baseline for turn in conversation)
    pairs = [pair for expected, own in zip(baseline, answers, strict=True) for pair in zip(expected, own, strict=True)]
    equal = [
        expected == token
        for turn, (text, _, _) in pairs
        for expected, token in zip(turn.ids, map(int, text.split()), strict=True)
    ]
    later_firsts = [(turn.first_seconds, first) for turn, (_, _, first) in pairs if turn.request.turns]
    first_answers = [(turn.seconds, answered) for turn, (_, answered, _) in pairs if not turn.request.turns]
    return Row(
        users=len(baseline),
        turns=turns,
        new_tokens=new_tokens,
        baseline_tokens_per_second=round(tokens / baseline_seconds, 3),
        blip_space_tokens_per_second=round(tokens / seconds, 3),
        ratio_tokens_per_second=round(baseline_seconds / seconds, 2),
        first_token_ratio_later_turns=_ratio(later_firsts),
        first_turn_ratio=_ratio(first_answers),
        tokens_equal=round(sum(equal) / len(equal), 4),
        memory_gigabytes=round(memory_bytes / 1e9, 3),
    )


def _ratio(pairs: Sequence[tuple[float, float]]) -> float:
    """The sum of blip-space's seconds to that of the baseline's."""
    baseline, own = (sum(pair[side] for pair in pairs) for side in (0, 1))
    return round(own / baseline, 3) if baseline else 0.0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--model", default="tiny", help=f"{', '.join(random_weights.NAMES)}, tiny, or a folder")
    parser.add_argument("--precision", default="auto", help="for random weights bf16, unless it is fp32")
    parser.add_argument("--device", default="auto", help="auto, cpu, or a GPU such as cuda:0")
    parser.add_argument("--users", default="1,4,16")
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
