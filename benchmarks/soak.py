"""`python -m benchmarks.soak --clients 64 --minutes 10 --chaos`: a server and many clients at once, for a long time.

Patient clients use the API as it is meant, and where a sentence says so try again, for up to a quarter of an hour; each
has an address of its own. With --chaos three of eight clients leave, cancel, send half of an upload, more calls than
their share, or what is no request; and the server's engine ends, runs out of memory, loses its folder of uploads, and
has its disk filled where this user may mount a small one. With --engine-process the engine has a process of its own,
which --chaos also kills. Prints a line every half minute and a table at the end.

The exit code is 0 if no patient client got an error, every refusal had a sentence, `/metrics` adds up, and in a run of
five minutes or more the memory of the last third is at most 5 % above that of the first.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.clients import draw_image
from benchmarks.load import failures
from benchmarks.load.counts import Counts
from benchmarks.load.disruptive import DisruptiveClient
from benchmarks.load.patient import PATIENCE_SECONDS, Answers, PatientClient
from benchmarks.load.scrape import Scrape, mismatches
from benchmarks.load.server import MemoryLog, ServerProcess, running

REPORT_SECONDS = 30.0
IMAGES = 32
WARM_SECONDS = 10.0
IDLE_SECONDS = 60.0
MAX_GROWTH = 0.05
MIN_MINUTES = 5
"""For the memory to say anything: until then caches fill."""

CAUSED = (
    "a failure that the benchmark has caused", "No such file or directory", "File exists", "No space left on device",
)  # fmt: skip
"""Of tracebacks that are expected, since the soak exhausts memory, deletes uploads and fills the disk. A folder may be
deleted while it is made, which Python calls the second and the third of these."""

DISRUPTIVE = (3, 5, 7)
"""Of each eight clients."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run for the given time, print the table, and return the exit code."""
    args = _parse(arguments)
    counts = Counts()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="blip-space-soak-")))
        images = [draw_image(folder, number).read_bytes() for number in range(IMAGES)]
        disk = folder / "disk"
        disk.mkdir()
        small_disk = args.chaos and stack.enter_context(failures.small_disk(disk))
        server = stack.enter_context(running(["--model", args.model], disk, engine_process=args.engine_process))
        clients = make_clients(server.url, args.clients, images, counts, chaos=args.chaos)
        tasks = [client.run for client in clients]
        if args.chaos:
            tasks.append(failures.Failures(server, counts, small_disk=small_disk, interval=args.failures).run)
        with MemoryLog(server) as memory:
            started = time.monotonic()
            run(tasks, 60 * args.minutes, lambda: _report(server, counts, started))
        problems = _wait_until_idle(server) + mismatches(Scrape.of(server.url), counts)
        growth = growth_of([sample for sample in memory.samples if sample[0] > started + WARM_SECONDS])
        if code := server.stop():
            problems.append(f"the server ended with exit code {code}")
        if args.log:
            shutil.copy(server.log, args.log)
        problems += [f"in the server's log: {line}" for line in _tracebacks(server.log)]
    print(_table(args, counts, memory, growth, problems, small_disk=small_disk))
    has_grown = growth > MAX_GROWTH and args.minutes >= MIN_MINUTES
    return int(bool(counts.total("error: ") or counts.total("bare: ") or problems or has_grown))


def make_clients(
    url: str, count: int, images: list[bytes], counts: Counts, *, chaos: bool
) -> list[PatientClient | DisruptiveClient]:
    """As many clients as asked for; with `chaos` some of each kind."""
    answers, clients = Answers(), list[PatientClient | DisruptiveClient]()
    disruptive = 0
    for number in range(count):
        if chaos and number % 8 in DISRUPTIVE:
            clients.append(DisruptiveClient(url, number, images, counts, action=disruptive))
            disruptive += 1
        else:
            clients.append(PatientClient(url, number, images, counts, answers))
    return clients


def run(tasks: Sequence[Callable[[threading.Event], None]], seconds: float, report: Callable[[], None]) -> None:
    """Run every task in a thread of its own for so many seconds, and report now and then."""
    done = threading.Event()
    threads = [threading.Thread(target=task, args=(done,)) for task in tasks]
    for thread in threads:
        thread.start()
    ends = time.monotonic() + seconds
    try:
        while (left := ends - time.monotonic()) > 0:
            time.sleep(min(REPORT_SECONDS, left))
            report()
    finally:
        done.set()
        for thread in threads:
            thread.join()


def growth_of(samples: Sequence[tuple[float, int]]) -> float:
    """By which part the mean of the last third of the samples is larger than that of the first."""
    sizes = [size for _, size in samples]
    third = max(1, len(sizes) // 3)
    return statistics.mean(sizes[-third:]) / statistics.mean(sizes[:third]) - 1 if sizes else 0.0


def _report(server: ServerProcess, counts: Counts, started: float) -> None:
    print(
        f"{(time.monotonic() - started) / 60:.1f} min: {counts.total('answered: ')} answered, "
        f"{counts.total('tried again: ')} tried again, {counts.total('error: ')} errors, "
        f"{server.memory() / 1e6:.0f} MB",
        flush=True,
    )


def _wait_until_idle(server: ServerProcess) -> list[str]:
    """Calls without a listener end after a while; what is wrong if they do not."""
    deadline = time.monotonic() + IDLE_SECONDS
    while time.monotonic() < deadline:
        scrape = Scrape.of(server.url)
        if not scrape.total("blip_space_waiting") + scrape.total("blip_space_running"):
            time.sleep(1)  # the last calls are counted when their events end
            return []
        time.sleep(0.5)
    return [f"the server still answers {IDLE_SECONDS:.0f} s after the last client"]


def _tracebacks(log: Path) -> list[str]:
    """The last lines of tracebacks other than those of failures that were caused."""
    lines = log.read_text("utf-8", "replace").splitlines()
    found = []
    for number, line in enumerate(lines):
        if line.startswith("Traceback "):
            rest = (later for later in lines[number + 1 :] if later and not later.startswith(" "))
            found.append(next(rest, "a traceback without an end")[:200])
    return sorted({line for line in found if not any(text in line for text in CAUSED)})


def _table(
    args: argparse.Namespace,
    counts: Counts,
    memory: MemoryLog,
    growth: float,
    problems: Sequence[str],
    *,
    small_disk: bool,
) -> str:
    seconds = sorted(counts.seconds) or [0.0]
    rows = {
        "clients, minutes": f"{args.clients}, {args.minutes:g}" + (", chaos" if args.chaos else ""),
        "engine": "in a process of its own" if args.engine_process else "in the server's process",
        "small disk": "yes" if small_disk else "no",
        "answers of patient clients": counts.total("answered: "),
        f"their errors, each after {PATIENCE_SECONDS / 60:.0f} minutes of trying again": counts.total("error: "),
        "tried again as a sentence asked": counts.total("tried again: "),
        "seconds of an answer, median / 95 % / longest": " / ".join(
            f"{seconds[min(len(seconds) - 1, int(len(seconds) * part))]:.1f}" for part in (0.5, 0.95, 1)
        ),
        "memory, last third against first": f"{growth:+.1%}",
        "peak memory, MB": f"{memory.peak / 1e6:.0f}",
        "errors without a sentence of ours": counts.total("bare: "),
    }
    lines = ["| | |", "|---|--:|", *(f"| {name} | {value} |" for name, value in rows.items())]
    lines += ["", *(f"{count} × {name}" for name, count in sorted(counts.counter.items()))]
    lines += ["", *(f"error: {text}" for text in counts.examples), *(f"problem: {text}" for text in problems)]
    return "\n".join(lines)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--chaos", action="store_true", help="clients that disturb, and failures of the server")
    parser.add_argument("--engine-process", action="store_true", help="the engine in a process of its own, as on CUDA")
    parser.add_argument("--failures", type=float, default=40.0, metavar="SECONDS", help="between two failures")
    parser.add_argument("--log", type=Path, help="where the log of the server is copied")
    parser.add_argument("--model", default="tiny")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
