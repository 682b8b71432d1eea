"""Onward, its peers and the bare floor on the same work, in one run on one machine; keeps `bench/RESULTS.md`.

    make bench                        everything (some 20 minutes, most of them the peers')
    make bench ARGS=--list            the benches
    make bench ARGS="kill resume-99"  these alone; the other sections of RESULTS.md stay

Each bench is a table of sides, each a whole process measured from start to end by `bench/measure.py`, in alternation;
fast sides run more often than slow ones, and medians are reported. What the project asks of the figures is checked and
the verdict written beside it. A side whose script is not there, or whose peer cannot be installed, is left out and
named. Peers live in virtual environments of their own under `bench/.venvs`, made when they are first wanted (Python
3.12). Their models are ours and in their own process: nothing touches the network once the peers are installed.
"""

from __future__ import annotations

import argparse
import compileall
import datetime
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from measure import Figures, compare, table

BENCH = Path(__file__).resolve().parent
HOME = BENCH.parent
RESULTS = BENCH / "RESULTS.md"
PEERS = {"inspect": "inspect-ai==0.3.285", "themis": "themis-eval==4.0.2", "litellm": "litellm[proxy]==1.106.2"}

HEAD = """# Results

Written by `make bench` (`bench/run.py`); do not edit by hand. Each section names the machine, the day, the load it
began under and the commands that made its figures. Times are of whole processes, imports and all; what a side says of
itself stands in the last column. Medians of the stated number of runs, taken in alternation.
"""


@dataclass(frozen=True)
class Side:
    """One contestant: a name, whose Python runs it (`own` or a peer's), its command line, and how often."""

    name: str
    python: str
    command: str
    runs: int = 1
    peer: str = ""
    """A peer that our own Python starts: it must be installed all the same."""

    @property
    def missing(self) -> str:
        """Why it cannot take part; empty if it can."""
        first = self.command.split()[0]
        file = HOME / first if first.endswith(".py") else Path(self.line()[0])
        installed_later = self.python in PEERS and not first.endswith(".py")
        return "" if installed_later or file.exists() else f"{first} is not there yet"

    def line(self) -> list[str]:
        """The command to run. A first word that is not a script is a program of that Python's environment."""
        python = Path(sys.executable) if self.python == "own" else BENCH / ".venvs" / self.python / "bin" / "python"
        first, *rest = self.command.split()
        return [str(python), str(HOME / first), *rest] if first.endswith(".py") else [str(python.parent / first), *rest]

    def shown(self) -> str:
        """The command as a reader would type it in the checkout."""
        where = ".venv/bin" if self.python == "own" else f"bench/.venvs/{self.python}/bin"
        return (
            f"{where}/python {self.command}" if self.command.split()[0].endswith(".py") else f"{where}/{self.command}"
        )


@dataclass(frozen=True)
class Asked:
    """What a figure must be: side A's figure, or how many times as great B's is. `figure` is wall, cpu, rss or said."""

    text: str
    figure: str
    of: str
    at_most: float | None = None
    at_least: float | None = None
    over: str = ""
    """Divide this side's figure by `of`'s."""
    less: str = ""
    """Subtract this side's figure from `of`'s."""

    def verdict(self, found: Mapping[str, Figures]) -> str:
        """One line for the reader."""
        sides = [name for name in (self.of, self.over, self.less) if name]
        values = [_figure(found[name], self.figure) for name in sides if name in found]
        known = [value for value in values if value is not None]
        if len(known) < len(sides):
            return f"- {self.text}: not measured"
        value = known[1] / known[0] if self.over else known[0] - known[1] if self.less else known[0]
        good = (self.at_most is None or value <= self.at_most) and (self.at_least is None or value >= self.at_least)
        told = "" if self.at_most is None is self.at_least else " ok" if good else " NOT REACHED"
        return f"- {self.text}: **{value:.3g}**{told}"


@dataclass(frozen=True)
class Bench:
    """One section of the results."""

    name: str
    title: str
    about: str
    sides: tuple[Side, ...]
    asked: tuple[Asked, ...] = ()


BENCHES = (
    Bench(
        "ten-thousand",
        "10,000 tasks",
        "One call of a zero-latency model in the same process, exact match, full durability. The floor is a bare loop "
        "of asyncio and sqlite3 that appends five durable entries a task (`bench/floor.py`).",
        (
            Side("Onward", "own", "bench/onward_run.py 10000", 5),
            Side("Inspect AI 0.3.285, its best settings", "inspect", "bench/peers/inspect_10000.py 10000 --best"),
            Side("Inspect AI 0.3.285, defaults", "inspect", "bench/peers/inspect_10000.py 10000"),
            Side("floor, 10 in flight", "own", "bench/floor.py 10000 10", 5),
            Side("floor, 32 in flight", "own", "bench/floor.py 10000 32", 5),
            Side("floor, 64 in flight", "own", "bench/floor.py 10000 64", 5),
        ),
        (
            Asked("times Inspect's wall time at its defaults (asked: 40)", "wall", "Onward", at_least=40,
                  over="Inspect AI 0.3.285, defaults"),
            Asked("times Inspect's wall time at its best (asked: 15)", "wall", "Onward", at_least=15,
                  over="Inspect AI 0.3.285, its best settings"),
            Asked("peak MB (asked: under 150)", "rss", "Onward", at_most=150),
        ),
    ),
    Bench(
        "scale",
        "From 1,000 to 100,000 tasks",
        "The same work; does time per task stay flat, and memory bounded?",
        (
            Side("Onward, 1,000", "own", "bench/onward_run.py 1000", 5),
            Side("Onward, 10,000", "own", "bench/onward_run.py 10000", 3),
            Side("Onward, 100,000", "own", "bench/onward_run.py 100000"),
            Side("floor, 100,000, 10 in flight", "own", "bench/floor.py 100000 10"),
            Side("floor, 100,000, 32 in flight", "own", "bench/floor.py 100000 32"),
            Side("floor, 100,000, 64 in flight", "own", "bench/floor.py 100000 64"),
        ),
        (
            Asked("MB more at 100,000 than at 10,000 (asked: less than 30)", "rss", "Onward, 100,000", at_most=30,
                  less="Onward, 10,000"),
            Asked("times the run's own seconds from 10,000 to 100,000 (flat is 10)", "run_seconds", "Onward, 10,000",
                  at_most=12, over="Onward, 100,000"),
            Asked("times the run's own seconds from 1,000 to 10,000 (flat is 10)", "run_seconds", "Onward, 1,000",
                  at_most=12, over="Onward, 10,000"),
        ),
    ),
    Bench(
        "themis",
        "200 and 1,000 tasks, with Themis",
        "The same work in Themis' SQLite store on the same disk. Its cost grows with the square of the cases, "
        "so 10,000 is out of reach.",
        (
            Side("Onward, 200", "own", "bench/onward_run.py 200", 5),
            Side("themis-eval 4.0.2, 200", "themis", "bench/peers/themis_n.py 200"),
            Side("Onward, 1,000", "own", "bench/onward_run.py 1000", 5),
            Side("themis-eval 4.0.2, 1,000", "themis", "bench/peers/themis_n.py 1000"),
        ),
        (
            Asked("times Themis' wall time at 200", "wall", "Onward, 200", over="themis-eval 4.0.2, 200"),
            Asked("times Themis' wall time at 1,000", "wall", "Onward, 1,000", over="themis-eval 4.0.2, 1,000"),
        ),
    ),
    Bench(
        "resume-99",
        "A run that is 99 % complete goes on",
        "`first_call_s`: seconds from the start of the process that resumes to its first new model call. (The times in "
        "the table's own columns include preparing the run.)",
        (
            Side("Onward, 10,000", "own", "bench/onward_resume.py 10000", 3),
            Side("Onward, 100,000", "own", "bench/onward_resume.py 100000"),
            Side("Inspect AI 0.3.285, eval-retry, 10,000", "inspect", "bench/peers/inspect_retry.py 10000"),
        ),
        (
            Asked("seconds to it at 10,000 (asked: 1.2)", "first_call_s", "Onward, 10,000", at_most=1.2),
            Asked("seconds to it at 100,000 (asked: 2.5)", "first_call_s", "Onward, 100,000", at_most=2.5),
        ),
    ),
    Bench(
        "kill",
        "kill -9 half-way",
        "200 tasks of 5 sequential calls of 40 ms; SIGKILL when half are answered, then resume. `repaid`: calls "
        "completed before the kill and asked again. `in_flight` ones cannot be known to anybody; `landing` "
        "ones (Onward tells them apart) were answered in the last milliseconds and not durable: nobody had been told.",
        (
            Side("Onward", "own", "bench/onward_kill.py 200 5", 3),
            Side("Inspect AI 0.3.285, eval-retry, defaults", "inspect", "bench/peers/inspect_kill.py 200 5", 3),
        ),
        (Asked("completed calls paid again (asked: 0)", "repaid", "Onward", at_most=0),),
    ),
    Bench(
        "size",
        "A conversation that repeats itself",
        "100 turns whose requests repeat their history, 2 KB of random words a message: bytes on disk over raw "
        "request bytes, after a checkpoint (`ratio`) and at the worst moment (`ratio_live`). Inspect AI: 0.87 % and "
        "29 %.",
        (Side("Onward", "own", "bench/onward_size.py 100", 1),),
        (
            Asked("database over raw bytes (asked: 0.02)", "ratio", "Onward", at_most=0.02),
            Asked("database and WAL at the worst moment (asked: 0.03)", "ratio_live", "Onward", at_most=0.03),
        ),
    ),
    Bench(
        "gateway",
        "The gateway, beside a direct call, a bare proxy and LiteLLM's",
        "Requests of 100 KB, answers of 2 KB; generator, upstream and proxy are three processes on the same cores, the "
        "first two as light as Python allows (`bench/loopback.py`). Lanes begin one after the other within 100 ms. "
        "`p50_64`, `p99_64`: milliseconds at 64 lanes against an upstream that answers in 100 ms (`_16`: at 16 lanes; "
        "`requests_s_64`: what came through, 640 at most); `requests_s`: 16 lanes against one that answers at once, "
        "and `cpu_ms` of the proxy's process for each; `p50_1`, `first_byte_ms`: one lane. Every exchange of Onward's "
        "waits for two durable commits, one of them before the first byte; `commit_ms` is what one alone takes here.",
        (
            Side("direct", "own", "bench/gateway.py direct 2000", 3),
            Side("bare proxy", "own", "bench/gateway.py bare 2000", 3),
            Side("Onward", "own", "bench/gateway.py onward 2000", 3),
            Side("LiteLLM 1.106.2's proxy", "own", "bench/gateway.py litellm 400", 1, peer="litellm"),
        ),
        (
            Asked("ms added at 64 lanes, p50 (asked: 1.5)", "p50_64", "Onward", at_most=1.5, less="direct"),
            Asked("ms added at 64 lanes, p99 (asked: 10)", "p99_64", "Onward", at_most=10, less="direct"),
            Asked("the same p50 of a bare proxy", "p50_64", "bare proxy", less="direct"),
            Asked("times LiteLLM's rate at 16 lanes (asked: 5)", "requests_s", "LiteLLM 1.106.2's proxy", at_least=5,
                  over="Onward"),
            Asked("its CPU time a request over ours", "cpu_ms", "Onward", over="LiteLLM 1.106.2's proxy"),
            Asked("ms by which a stream's first byte is later (asked: under 1)", "first_byte_ms", "Onward",
                  at_most=1, less="direct"),
        ),
    ),
    Bench(
        "gateway-storm",
        "5,000 exchanges through a storm of kills",
        "64 lanes, streamed and not; the processes of gateway, clients and provider are killed at random, the "
        "provider refuses and cuts, lanes hang up. `bench/gateway_storm.py` says what is lost, swapped and paid twice.",
        (Side("Onward", "own", "bench/gateway_storm.py 5000"),),
        (
            Asked("lost (asked: 0)", "lost", "Onward", at_most=0),
            Asked("swapped (asked: 0)", "swapped", "Onward", at_most=0),
            Asked("complete and paid twice (asked: 0)", "paid_twice", "Onward", at_most=0),
        ),
    ),
    Bench(
        "gateway-memory",
        "The gateway's memory over 50,000 exchanges",
        "Requests of 100 KB at 16 lanes, half of them in trials of 25, half in one trial. `more_*`: megabytes by which "
        "resident memory in the last tenth of a half was above that in its second tenth.",
        (Side("Onward", "own", "bench/gateway_memory.py 50000"),),
        (
            Asked("MB more at the end of 25,000 in short trials (asked: flat)", "more_short", "Onward", at_most=10),
            Asked("KB that an exchange of the long trial leaves", "kb_each", "Onward", at_most=2),
        ),
    ),
    Bench(
        "gateway-size",
        "An episode through the gateway, on disk",
        "60 turns, 40 KB of preamble, messages and answers of 2 KB, half of them streamed: random words, or code. The "
        "texts of random words, each stored once and compressed as far as chance can be, are 0.017 by themselves.",
        (Side("words", "own", "bench/gateway_size.py 60 words"), Side("code", "own", "bench/gateway_size.py 60 code")),
        tuple(
            Asked(f"{text}: {what} over raw bytes (asked: {most})", figure, text, at_most=most)
            for text in ("words", "code")
            for what, figure, most in (("database", "ratio", 0.02), ("with WAL, at worst", "ratio_live", 0.03))
        ),
    ),
    Bench(
        "version",
        "Starting up",
        "`--version`, a process from start to end.",
        (
            Side("onward --version", "own", "onward --version", 9),
            Side("inspect --version", "inspect", "inspect --version", 3),
            Side("themis --version", "themis", "themis --version", 3),
        ),
        (Asked("seconds (asked: 0.2)", "wall", "onward --version", at_most=0.2),),
    ),
)  # fmt: skip


def _figure(found: Figures, name: str) -> float | None:
    return getattr(found, name) if name in {"wall", "cpu", "rss"} else found.said.get(name)


def _python312() -> str | None:
    """A Python 3.12 that starts (a version manager's shim may be in the way)."""
    around = sorted(Path.home().glob(".pyenv/versions/3.12*/bin/python3.12"), reverse=True)
    for candidate in (shutil.which("python3.12"), *map(str, around)):
        if candidate and subprocess.run([candidate, "-V"], capture_output=True, check=False).returncode == 0:
            return candidate
    return None


def install(peer: str) -> str:
    """Make the peer's environment if it is not there. Returns why not, or nothing."""
    venv, wanted = BENCH / ".venvs" / peer, PEERS[peer]
    stamp = venv / ".installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return ""
    python = _python312()
    if python is None:
        return f"{wanted} needs Python 3.12, which is not here"
    print(f"installing {wanted} …", flush=True)
    for command in (
        [python, "-m", "venv", "--clear", str(venv)],
        [str(venv / "bin" / "pip"), "install", "-q", "--disable-pip-version-check", wanted],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"{wanted} could not be installed: {done.stderr.strip().splitlines()[-1:]}"
    stamp.write_text(wanted)
    return ""


def machine() -> str:
    """What the figures were measured on."""
    info = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    name = f"{model[1]}, " if model else ""
    return f"{name}{os.cpu_count()} cores, {memory:.0f} GB, {platform.system()} {platform.release()}"


def measure(bench: Bench, *, peers_only: bool) -> tuple[str, bool]:
    """Run one bench; its section, and whether all sides ended well."""

    def why_not(side: Side) -> str:
        if peers_only and "onward" in side.command:
            return "not asked for this time"
        peer = side.peer or side.python
        return side.missing or (install(peer) if peer in PEERS else "")

    absent = {side.name: why_not(side) for side in bench.sides}
    sides = [side for side in bench.sides if not absent[side.name]]
    load = os.getloadavg()[0]
    found: dict[str, Figures] = {}
    trouble: dict[str, Exception] = {}
    if sides:
        print(f"{bench.name}: {', '.join(side.name for side in sides)} …", flush=True)
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            os.environ["TMPDIR"] = folder  # what a side leaves behind goes with it
            lines_of = {side.name: side.line() for side in sides}
            found, trouble = compare(lines_of, {side.name: side.runs for side in sides})
    day = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    lines = [f"## {bench.title}", "", bench.about, ""]
    lines += [f"{day}; {machine()}; load average before: {load:.1f} (medians suffer when it is not near 0).", ""]
    lines += [table(found), ""] if found else []
    lines += [f"- {name}: left out, {why}" for name, why in absent.items() if why]
    lines += [f"- {name}: FAILED ({str(error).strip().splitlines()[-1]})" for name, error in trouble.items()]
    lines += ["", *(asked.verdict(found) for asked in bench.asked)] if found else []
    lines += ["", "```", *(side.shown() for side in sides), "```", ""] if sides else [""]
    for error in trouble.values():
        print(error, file=sys.stderr)
    return "\n".join(lines), not trouble


def write(name: str, section: str) -> None:
    """Put a section in its place in RESULTS.md, between its marks; the others stay as they are."""
    text = RESULTS.read_text() if RESULTS.exists() else HEAD
    kept = {found[1]: found[2] for found in re.finditer(r"<!-- bench (\S+) -->\n(.*?)<!-- /bench -->", text, re.DOTALL)}
    kept[name] = section
    order = [bench.name for bench in BENCHES if bench.name in kept]
    RESULTS.write_text(
        HEAD + "".join(f"\n<!-- bench {one} -->\n{kept[one].rstrip()}\n<!-- /bench -->\n" for one in order)
    )


def main() -> None:
    """Run the benches that were named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--peers", action="store_true", help="leave Onward's own sides out")
    parser.add_argument("names", nargs="*", metavar="NAME")
    given = parser.parse_args()
    known = {bench.name: bench for bench in BENCHES}
    if unknown := [name for name in given.names if name not in known]:
        parser.error(f"no such bench: {', '.join(unknown)}; there are {', '.join(known)}")
    if given.list:
        for bench in BENCHES:
            print(f"{bench.name:16}{bench.title}")
        return
    # Peers are compiled to bytecode when pip installs them; a checkout, where Python may write none, is not.
    compileall.compile_dir(BENCH.parent / "src" / "onward", quiet=1)
    well = True
    for name in given.names or known:
        section, good = measure(known[name], peers_only=given.peers)
        write(name, section)
        print(section, flush=True)
        well &= good
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
