"""Runs TLC on every configuration and on every mutation of the specifications; see README.md. Started by check.sh."""

import argparse
import concurrent.futures
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

SPECS = pathlib.Path(__file__).resolve().parent
# TLC's exit codes for a violated invariant or action property, and for a violated liveness property.
VIOLATED = (12, 13)
TIME_LIMIT_S = {False: 300, True: 3600}


class Run:
    """One call of TLC: a configuration as it stands, or with a mutation and the one property that must catch it."""

    def __init__(self, cfg, mutation=None, expected=None):
        self.cfg, self.mutation, self.expected = cfg, mutation, expected
        self.spec = cfg.split(".")[0]
        self.name = cfg if mutation is None else f"{cfg}+{mutation}"
        self.seconds, self.states, self.depth, self.problem, self.output = 0.0, "", "", None, ""

    def config_text(self):
        text = (SPECS / f"{self.cfg}.cfg").read_text()
        if self.mutation is None:
            return text
        lines = [line for line in text.splitlines() if not line.startswith(("INVARIANT ", "PROPERTY "))]
        changed = [re.sub(r'Mutant = "none"', f'Mutant = "{self.mutation}"', line) for line in lines]
        if changed == lines:
            raise SystemExit(f"{self.cfg}.cfg has no Mutant to set")
        known = re.search(rf"^(INVARIANT|PROPERTY) {self.expected}$", text, re.MULTILINE)
        if not known:
            raise SystemExit(f"{self.expected} is not checked by {self.cfg}.cfg, so catching {self.mutation} by it proves nothing")
        return "\n".join([*changed, known.group(0), ""])

    def execute(self, options):
        work = options.work / self.name
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        for module in SPECS.glob("*.tla"):
            shutil.copy(module, work)
        (work / "Run.cfg").write_text(self.config_text())
        # Mutations end soon: the fast compiler is enough for them.
        tier = "4" if self.mutation is None else "1"
        command = ["java", "-XX:+UseSerialGC", f"-XX:TieredStopAtLevel={tier}", f"-Xmx{options.heap}", f"-Djava.io.tmpdir={work}"]
        command += ["-cp", str(options.jar), "tlc2.TLC", "-deadlock", "-workers", str(options.workers), "-seed", "1", "-fp", "1"]
        command += ["-metadir", str(work / "states"), "-config", "Run.cfg", f"{self.spec}.tla"]
        if options.nice:
            command = ["nice", "-n", str(options.nice), *command]
        code = self.call(command, work, TIME_LIMIT_S[options.full])
        shutil.rmtree(work / "states", ignore_errors=True)
        if found := re.findall(r"([\d,]+) distinct states found", self.output):
            self.states = found[-1].replace(",", "")
        steps = len(re.findall(r"^State \d+:", self.output, re.MULTILINE))
        self.depth = str(steps - 1) if steps else ""
        self.problem = self.judge(code)
        return self

    def call(self, command, work, limit_s):
        """Runs `command` with its output in output.txt; None if it took too long. Notes the CPU time, which load does not change."""
        with (work / "output.txt").open("w") as output:
            process = subprocess.Popen(command, cwd=work, stdout=output, stderr=subprocess.STDOUT)
            late = threading.Timer(limit_s, process.kill)
            late.start()
            _pid, status, usage = os.wait4(process.pid, 0)
            late.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        self.seconds = usage.ru_utime + usage.ru_stime
        self.output = (work / "output.txt").read_text()
        return None if process.returncode == -signal.SIGKILL else process.returncode

    def judge(self, code):
        if code is None:
            return "out of time, or killed"
        if self.mutation is None:
            return None if code == 0 and "No error has been found" in self.output else "see output.txt"
        if code == 0:
            return f"NOT REJECTED: {self.expected} holds"
        by_name = re.search(r"(?:Invariant|property) (\w+) is violated", self.output)
        by_time = "Temporal properties were violated" in self.output
        # Only one property was given, so a liveness violation, which TLC does not name, is of that one.
        if code in VIOLATED and (by_time or (by_name and by_name.group(1) == self.expected)):
            return None
        return "failed otherwise, see output.txt"

    def line(self):
        if self.mutation is None:
            result = "ok" if self.problem is None else f"FAILED: {self.problem}"
            return f"{self.cfg:<46} {self.states:>10} {self.seconds:>7.1f}  {result}"
        result = f"violates {self.expected} in {self.depth} steps" if self.problem is None else f"FAILED: {self.problem}"
        return f"  {self.mutation:<44} {self.states:>10} {self.seconds:>7.1f}  {result}"


def plan(options):
    """Every configuration, then every mutation: the short ones come last, so that both cores end together."""
    runs = []
    for path in sorted(SPECS.glob("*.cfg")):
        cfg = path.name.removesuffix(".cfg")
        if ".full" not in cfg or options.full:
            runs.append(Run(cfg))
    for path in sorted((SPECS / "mutations").glob("*.txt")):
        for line in path.read_text().splitlines():
            if line and not line.startswith("#"):
                mutation, cfg, expected, _why = (part.strip() for part in line.split("|", 3))
                if ".full" not in cfg or options.full:
                    runs.append(Run(cfg, mutation, expected))
    return [run for run in runs if not options.names or run.spec in options.names]


def check_traces(options):
    """Every NAME.tla with its NAME.cfg in the folder: recorded behaviours, which TLC must accept as the configuration says."""
    for module in SPECS.glob("*.tla"):
        shutil.copy(module, options.traces)
    failed = 0
    for cfg in sorted(options.traces.glob("*.cfg")):
        run = Run(cfg.stem)
        command = ["java", "-XX:+UseSerialGC", f"-Xmx{options.heap}", f"-Djava.io.tmpdir={options.traces}", "-cp", str(options.jar)]
        command += ["tlc2.TLC", "-workers", "1", "-metadir", str(options.traces / "states"), "-config", cfg.name, f"{cfg.stem}.tla"]
        # A trace that stops before its end is a deadlock; of those that were damaged every one must stop.
        if "NoneEnds" in cfg.read_text():
            command.append("-deadlock")
        code = run.call(command, options.traces, TIME_LIMIT_S[False])
        shutil.rmtree(options.traces / "states", ignore_errors=True)
        output = options.traces / f"{cfg.stem}.txt"
        (options.traces / "output.txt").rename(output)
        run.problem = run.judge(code)
        states = re.findall(r"([\d,]+) distinct states found", run.output)
        print(f"{cfg.stem}: {states[-1] if states else 0} states, {run.seconds:.1f} s of CPU, {run.problem or 'ok'}")
        if run.problem:
            failed += 1
            # Where it stopped: the last state's trace and step.
            trace, at = (re.findall(rf"^/\\ {name} = (\d+)", run.output, re.MULTILINE)[-1:] or ["?"] for name in ("trace", "at"))
            error = re.findall(r"^Error: (.*)", run.output, re.MULTILINE)[:1] or ["out of time, or killed"]
            print(f"  Trace{trace[0]} of {cfg.stem}.tla, step {at[0]}: {error[0]} See {output}", file=sys.stderr)
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser(prog="specs/check.sh", description=__doc__)
    parser.add_argument("--jar", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--full", action="store_true", help="larger bounds too: many minutes")
    parser.add_argument("--jobs", type=int, default=2, help="TLC processes at a time")
    parser.add_argument("--workers", type=int, default=1, help="threads of each")
    parser.add_argument("--heap", default="2g", help="memory of each")
    parser.add_argument("--nice", type=int, default=0, help="niceness of each")
    parser.add_argument("--traces", type=pathlib.Path, help="only the recorded behaviours in this folder")
    parser.add_argument("names", nargs="*", help="only these specifications")
    options = parser.parse_args()
    options.jar, options.work = options.jar.resolve(), options.work.resolve()

    if options.traces:
        return check_traces(options)
    runs = plan(options)
    if not runs:
        raise SystemExit(f"no specification is called {' or '.join(options.names)}")
    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda run: run.execute(options), runs))

    print(f"{'configuration, or mutation of it':<46} {'states':>10} {'CPU s':>7}  result")
    for cfg in dict.fromkeys(run.cfg for run in runs):
        for run in runs:
            if run.cfg == cfg:
                print(run.line())
    failed = [run for run in runs if run.problem]
    cpu_s = sum(run.seconds for run in runs)
    print(f"{len(runs)} runs, {len(failed)} not as expected; {time.monotonic() - begun:.0f} s, {cpu_s:.0f} s of CPU; outputs in {options.work}")
    for run in failed:
        print(f"\n--- {run.name}\n{run.output[-3000:]}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
