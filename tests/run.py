#!/usr/bin/env python3
"""run.py: runs test programs one after the other and adds up what they counted.

  run.py [--log DIR] COMMAND...     each COMMAND is one shell-quoted word list, e.g. 'build/parity tests/fixtures/a'

Reads cmocka's totals ("[  PASSED  ] 7 test(s).") and the plain form ("7 passed, 0 failed"). A program that exits non-zero, is killed, or counts
nothing is a failure by itself. Prints one line a program, the whole output of those that failed, and at the end `N passed, N failed`.
"""
import os
import re
import shlex
import subprocess
import sys
import time

TIMEOUT_S = 900


def counts(output):
    plain = re.findall(r"^(?:\w+: )?(\d+) passed, (\d+) failed", output, re.M)
    if plain:
        return tuple(map(int, plain[-1]))
    passed = sum(map(int, re.findall(r"\[  PASSED  \] (\d+) test", output)))
    failed = sum(map(int, re.findall(r"\[  FAILED  \] (\d+) test", output)))
    return passed, failed


def run_one(command, log):
    start = time.monotonic()
    try:
        done = subprocess.run(shlex.split(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=TIMEOUT_S, stdin=subprocess.DEVNULL)
        output, code = done.stdout.decode(errors="replace"), done.returncode
    except subprocess.TimeoutExpired as late:
        output, code = (late.stdout or b"").decode(errors="replace") + f"\nno end within {TIMEOUT_S} s\n", 124
    passed, failed = counts(output)
    if failed == 0 and (code != 0 or passed == 0):
        failed = 1
    name = os.path.basename(shlex.split(command)[0] if not command.startswith("python3") else shlex.split(command)[1])
    if log:
        with open(os.path.join(log, name + ".log"), "w") as f:
            f.write(output)
    print(f"{'FAIL' if failed else 'ok  '} {name:28s} {passed:5d} passed {failed:3d} failed  {time.monotonic() - start:6.1f} s", flush=True)
    if failed:
        print(output[-20000:], flush=True)
    return passed, failed


def main():
    arguments = sys.argv[1:]
    log = None
    if arguments[:1] == ["--log"]:
        log = arguments[1]
        os.makedirs(log, exist_ok=True)
        arguments = arguments[2:]
    passed = failed = 0
    for command in arguments:
        p, f = run_one(command, log)
        passed, failed = passed + p, failed + f
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
