#!/usr/bin/env python3
"""test_kill_learn.py BINARY [--kills N] [--seed S]: learn-ids killed with -9 at random moments ends with the same bytes as an unbroken run.

Learns a small bundle of the sample once without a break; then again, killed N times at random moments (drawn from the unbroken run's length),
each time started again with the same command until one run ends by itself. Every file of the two bundles must be equal, and the kills must have
met different checkpoints: at least a quarter as many as there were kills. (Default 5; `make soak` runs 20, over a run that is longer.) And once interrupted: status 75, no signal handler anywhere (its frame would lie over oneDNN's data), and it goes on.
"""
import filecmp
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time


def option(name, default):
    return int(sys.argv[sys.argv.index(name) + 1]) if name in sys.argv else default


def start(binary, folder, bundle):
    epochs = "30" if option("--kills", 5) >= 10 else "6"
    command = [binary, "learn-ids", "--data", f"{folder}/data", "--model", f"{folder}/{bundle}", "--first", "400", "--k", "16", "--d-model", "32",
               "--d-ff", "64", "--d-kv", "16", "--heads", "2", "--encoder-layers", "1", "--decoder-layers", "1", "--max-tokens", "32", "--batch",
               "16", "--continuous-epochs", epochs, "--joint-epochs", epochs, "--kmeans-restarts", "2", "--checkpoint-s", "0.1", "--quiet"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process):
    _, err = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"learn-ids ended with {process.returncode}: {err.decode(errors='replace')[-500:]}")


def caught(pid):
    """Whether the process has handlers of its own for INT or TERM."""
    with open(f"/proc/{pid}/status") as f:
        mask = next(int(line.split()[1], 16) for line in f if line.startswith("SigCgt"))
    return bool(mask >> (signal.SIGINT - 1) & 1 or mask >> (signal.SIGTERM - 1) & 1)


def checkpoint_digest(folder):
    """Of what a killed run would go on from; None before the first checkpoint."""
    try:
        with open(f"{folder}/broken.work/checkpoint", "rb") as f:
            return hashlib.sha256(f.read()).hexdigest()
    except FileNotFoundError:
        return None


def interrupt(binary, folder, length):
    """(status of a run that was interrupted half way, whether it had a handler, whether it said so); then it is run to its end."""
    process = start(binary, folder, "interrupted")
    time.sleep(length / 2)
    handler = caught(process.pid)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    finish(start(binary, folder, "interrupted"))
    return process.returncode, handler, b"stopping" in err


def main():
    binary, kills = os.path.abspath(sys.argv[1]), option("--kills", 5)
    random.seed(option("--seed", 1))
    folder = tempfile.mkdtemp(prefix="semindex-kill-learn-")
    try:
        subprocess.run([binary, "sample", "--out", f"{folder}/data", "--seed", "1", "--quiet"], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        began = time.monotonic()
        finish(start(binary, folder, "whole"))
        length = time.monotonic() - began
        done, met = 0, set()
        while done < kills:
            process = start(binary, folder, "broken")
            try:
                process.wait(timeout=random.uniform(0.02, max(0.1, 2 * length / kills)))
                if process.returncode != 0:
                    finish(process)
                shutil.rmtree(f"{folder}/broken")  # ended before its kill: the next one starts anew
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                met.add(checkpoint_digest(folder))
                done += 1
        finish(start(binary, folder, "broken"))
        names = sorted(set(os.listdir(f"{folder}/whole")) | set(os.listdir(f"{folder}/broken")) - {"bundle.lock"})
        names = [n for n in names if n != "bundle.lock"]
        differ = [n for n in names if not os.path.exists(f"{folder}/broken/{n}") or not os.path.exists(f"{folder}/whole/{n}")
                  or not filecmp.cmp(f"{folder}/whole/{n}", f"{folder}/broken/{n}", shallow=False)]
        checkpoints = len(met - {None})
        print(f"kill_learn kills={kills} unbroken_s={length:.1f} checkpoints={checkpoints} files={len(names)} differ={differ}")
        interrupted = interrupt(binary, folder, length)
        print(f"kill_learn interrupted: status={interrupted[0]} handler={interrupted[1]} said_so={interrupted[2]}")
        failed = bool(differ) + (interrupted != (75, False, True)) + (checkpoints < kills / 4)
        print(f"{3 - failed} passed, {failed} failed")
        return 1 if failed else 0
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
