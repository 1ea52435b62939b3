"""Choice and loss of the device: names, refusals, a fault while serving, on the emulated device where the program has one.

    test_device.py BINARY [BUNDLE]

A program without an emulated device tries what does not need one: --device cuda is refused in one line, auto says why it took the cpu.
"""
import os
import tempfile
import threading
import time

from harness import arguments, Daemon, Suite, run

NONE = {"SEMINDEX_CUDA_MODULE": "/nonexistent/semindex-cuda.so"}


def is_emulated(binary):
    return "emulated" in run(binary, "doctor")[1]


def names(suite, binary, search):
    status, _, text = run(binary, *search, "--device", "cuda:999", env=NONE)
    suite.check("no such device", status == 69 and len(text.strip().split("\n")) == 1, f"got {status}: {text}")
    status, _, text = run(binary, *search, "--device", "gpu")
    suite.check("no such name", status == 64 and "cuda[:N]" in text, f"got {status}: {text}")
    status, _, text = run(binary, *search, "--device", "auto", env=NONE)
    suite.check("auto says why it took the cpu", status == 0 and "device: cpu" in text and "(" in text, f"got {status}: {text}")
    status, _, text = run(binary, *search, "--device", "cpu")
    suite.check("cpu says nothing more", status == 0 and "device: cpu" in text and "(" not in text, f"got {status}: {text}")


def without_device(suite, binary, search):
    status, out, text = run(binary, *search, "--device", "cuda", env=NONE)
    lines = text.strip().split("\n")
    suite.check("cuda is refused in one line", status == 69 and not out and len(lines) == 1 and "device cuda: " in text, f"got {status}: {text}")


def hits(binary, search, device):
    status, out, text = run(binary, *search, "--mode", "generative", "--json", "--device", device)
    return (status, text) if status else [part.split('"')[1] for part in out.split('"id":')[1:]]


def same_hits(suite, binary, search):
    suite.equal("the emulated device finds what the cpu finds", set(hits(binary, search, "cuda")[:5]), set(hits(binary, search, "cpu")[:5]))


def too_small(suite, binary, search):
    status, _, text = run(binary, *search, "--device", "cuda", env={"SEMINDEX_EMU_MEMORY": "100000"})
    suite.check("a model that does not fit is refused with both figures", status == 69 and "needs" in text and "are free" in text,
                f"got {status}: {text}")


def writes_texts(suite, binary, folder):
    """Training on text targets and writing from them: the losses are the cpu's, up to bf16's rounding, and what is written is text."""
    with open(os.path.join(folder, "corpus.jsonl"), "w") as f:
        for i in range(24):
            f.write('{"_id": "d%d", "text": "%s"}\n' % (i, " ".join("red apple green tree iron horse river".split()[(i * k) % 7] for k in range(1, 19))))
    losses, bundle = {}, os.path.join(folder, "base-")
    for device in ("cpu", "cuda"):
        status, _, text = run(binary, "pretrain", "--data", folder, "--out", bundle + device, *"--d-model 32 --d-ff 64 --d-kv 8 --encoder-layers 1 "
                              "--decoder-layers 1 --max-tokens 24 --batch 8 --steps 6 --lr 1e-2 --validations 1 --validation-share 0.2".split(),
                              "--device", device)
        losses[device] = float(text.split("validation loss ")[1].split()[0]) if status == 0 and "validation loss" in text else text[-300:]
    suite.check("pretraining learns on the device as on the cpu", isinstance(losses["cuda"], float) and abs(losses["cuda"] - losses["cpu"]) < 0.03,
                losses)
    status, _, text = run(binary, "queries", "--model", bundle + "cuda", "--data", folder, "--out", os.path.join(folder, "q.jsonl"), "--first", "3",
                          "--per-document", "2", "--max-tokens", "6", "--device", "cuda")
    suite.check("the device writes queries", status == 0 and "written for 3 documents" in text, text[-300:])
    suite.check("a base that was only pretrained is warned of", "its base was pretrained to fill gaps" in text, text[-300:])


class Watch(threading.Thread):
    """Asks /readyz until nobody answers; `seen` lists the statuses, `after` is the time of the first 503."""

    def __init__(self, daemon):
        super().__init__()
        self.daemon_process, self.seen, self.after = daemon, [], None

    def run(self):
        try:
            while True:
                status, _, body = self.daemon_process.request("GET", "/readyz", timeout=5)
                if status == 503 and self.after is None:
                    self.after = time.time()
                    self.body = body
                self.seen.append(status)
                time.sleep(0.01)
        except OSError:
            pass
        except Exception:  # a connection that ends inside an answer
            pass


def ask_until_lost(d):
    try:
        for i in range(100000):
            d.request("POST", "/search", {"query": f"word {i}", "mode": "generative"}, timeout=20)
    except Exception:  # the connection ends with the process
        return


def fault(suite, binary, bundle):
    """The launch that fails is found by counting: the daemon must first become ready, so the count grows until it does."""
    for launches in (2000, 4000, 8000, 16000, 64000):
        d = Daemon(binary, bundle, "--device", "cuda", env={"SEMINDEX_EMU_FAULT": str(launches)}, timeout=120)
        try:
            d.start()
        except (RuntimeError, OSError):  # it was lost while searches were recorded
            d.stop()
            continue
        watch = Watch(d)
        watch.start()
        ask_until_lost(d)
        status = d.process.wait(30)
        ended = time.time()
        watch.join(30)
        suite.equal("exit code after a fault", status, 70)
        suite.check("ready before", 200 in watch.seen, watch.seen[:5])
        suite.check("/readyz says 503 before the end", 503 in watch.seen, watch.seen[-5:])
        suite.check("the end comes within a second", watch.after is not None and ended - watch.after < 1.5, ended - (watch.after or 0))
        lines = [line for line in d.log_text(1 << 20).split("\n") if "device cuda" in line or "fault" in line]
        suite.check("one line says so", len([line for line in lines if line.startswith("semindex: ")]) == 1, lines)
        d.stop()
        return
    suite.check("the daemon became ready with a fault to come", False)


def main():
    binary, bundle, _ = arguments()
    suite = Suite("test_device")
    with tempfile.TemporaryDirectory() as folder:
        search = ["search", "--model", bundle, "--catalog", os.path.join(folder, "c.db"), "red", "shoes"]
        names(suite, binary, search)
        if is_emulated(binary):
            same_hits(suite, binary, search)
            writes_texts(suite, binary, folder)
            too_small(suite, binary, search)
            fault(suite, binary, bundle)
        else:
            without_device(suite, binary, search)
    suite.end()


main()
