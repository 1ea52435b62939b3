"""harness.py: start a semindex daemon for a test, talk to it, stop it. Python's standard library only.

    from harness import Daemon, Suite, arguments
    binary, bundle, rest = arguments()
    with Daemon(binary, bundle) as d:
        status, headers, body = d.request("POST", "/search", {"query": "x"})

The daemon runs in a folder of its own that is removed afterwards, on 127.0.0.1 and a port that the kernel picks. Suite counts checks and prints
`N passed, N failed`. Every script here takes: BINARY [BUNDLE [more]]; without a bundle, or with `-`, the beam fixture is imported into one.
"""
import atexit
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time


FIXTURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures", "a", "beam")


def arguments():
    """(binary, bundle, further arguments) of the command line."""
    if len(sys.argv) < 2:
        sys.exit(f"usage: {sys.argv[0]} BINARY [BUNDLE|- [more]]")
    bundle = sys.argv[2] if len(sys.argv) > 2 and sys.argv[2] != "-" else import_beam(sys.argv[1])
    return sys.argv[1], bundle, sys.argv[3:]


def run(binary, *words, env=None, cwd=None, timeout=600):
    """A command to its end: (status, standard output, standard error)."""
    p = subprocess.run([os.path.abspath(binary), *words], capture_output=True, text=True, errors="replace", env=dict(os.environ, **(env or {})),
                       cwd=cwd, timeout=timeout)
    return p.returncode, p.stdout, p.stderr


def version_of(path):
    """Tells one state of a file from the next, which takes its place by a rename; None while there is none."""
    try:
        s = os.stat(path)
        return s.st_ino, s.st_mtime_ns
    except FileNotFoundError:
        return None


def stopped(binary, words, checkpoint, ends):
    """A long run, stopped by each signal in turn once a new checkpoint is there, then to its end: (stops, statuses, last standard error)."""
    stops, statuses = 0, []
    for end in [*ends, None]:
        seen = version_of(checkpoint)
        p = subprocess.Popen([os.path.abspath(binary), *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace")
        while end and p.poll() is None:
            if version_of(checkpoint) not in (None, seen):
                stops += 1
                p.send_signal(end)
                break
            time.sleep(0.005)
        err = p.communicate()[1]
        statuses.append(p.returncode)
        if p.returncode == 0:
            break
    return stops, statuses, err


def import_beam(binary):
    folder = tempfile.mkdtemp(prefix="semindex-bundle-")
    atexit.register(shutil.rmtree, folder, True)
    return import_bundle(binary, FIXTURES, os.path.join(folder, "bundle"))


def import_bundle(binary, folder, bundle, model=None):
    """The bundle of a fixture folder `beam`; model: another folder of weights for it."""
    subprocess.run([binary, "import", model or os.path.join(folder, "model"), "--codes", os.path.join(folder, "codes.json"), "--ids",
                    os.path.join(folder, "ids.tsv"), "--out", bundle, "--quiet"], check=True, stderr=subprocess.DEVNULL)
    return bundle


class Daemon:
    def __init__(self, binary, bundle, *flags, env=None, wait=True, catalog=None, timeout=120):
        self.folder = tempfile.mkdtemp(prefix="semindex-test-")
        self.binary, self.bundle, self.flags = os.path.abspath(binary), os.path.abspath(bundle), list(flags)
        self.catalog = catalog or os.path.join(self.folder, "catalog.db")
        self.env = dict(os.environ, **(env or {}))
        self.timeout, self.wait_ready, self.process, self.port = timeout, wait, None, None

    def start(self):
        self.log = open(os.path.join(self.folder, "log.txt"), "ab")
        command = [self.binary, "serve", "--model", self.bundle, "--catalog", self.catalog, "--listen", "127.0.0.1:0", *self.flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, env=self.env, cwd=self.folder)
        line = self.process.stdout.readline().decode()
        if not line.startswith("listening on http://"):
            self.process.wait()
            raise RuntimeError(f"the daemon did not start (status {self.process.returncode}):\n{self.log_text()}")
        self.port = int(line.rsplit(":", 1)[1])
        if self.wait_ready:
            self.until_ready()
        return self

    def until_ready(self):
        end = time.time() + self.timeout
        while time.time() < end:
            if self.process.poll() is not None:
                raise RuntimeError(f"the daemon ended with {self.process.returncode}:\n{self.log_text()}")
            if self.request("GET", "/readyz")[0] == 200:
                return
            time.sleep(0.05)
        raise RuntimeError("the daemon did not become ready")

    def log_text(self, most=4000):
        with open(os.path.join(self.folder, "log.txt"), errors="replace") as f:
            return f.read()[-most:]

    def request(self, method, path, body=None, headers=None, timeout=60):
        """(status, headers as a dict with lower-case names, body: parsed when it is JSON, else bytes)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            return exchange(connection, method, path, body, headers)
        finally:
            connection.close()

    def raw(self, data, timeout=5, half_close=False):
        """Everything that the server sends back to these bytes until it closes, or until `timeout` of silence."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as s:
            try:
                s.sendall(data)
                if half_close:
                    s.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            return receive(s)

    def terminate(self, timeout=30):
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process:
            self.process.stdout.close()
            self.log.close()
        status = self.process.returncode if self.process else None
        shutil.rmtree(self.folder, ignore_errors=True)
        return status

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_):
        self.stop()


def exchange(connection, method, path, body=None, headers=None):
    headers = dict(headers or {})
    if body is not None and not isinstance(body, (bytes, bytearray)):
        body = json.dumps(body).encode()
    if body is not None and not any(k.lower() == "content-type" for k in headers):
        headers["Content-Type"] = "application/json"
    connection.request(method, path, body=body, headers=headers)
    response = connection.getresponse()
    data = response.read()
    named = {k.lower(): v for k, v in response.getheaders()}
    if named.get("content-type", "").startswith(("application/json", "application/problem+json")) and data:
        data = json.loads(data)
    return response.status, named, data


def in_threads(count, work):
    """Starts work(0) .. work(count - 1), each in a thread of its own; the threads."""
    threads = [threading.Thread(target=work, args=(i,)) for i in range(count)]
    for t in threads:
        t.start()
    return threads


def receive(s):
    out = b""
    try:
        while True:
            part = s.recv(65536)
            if not part:
                return out
            out += part
    except OSError:
        return out


def statuses(raw):
    """The status codes of the answers in a raw byte string, in order."""
    return [int(raw[i + 9:i + 12]) for i in range(len(raw)) if raw.startswith(b"HTTP/1.1 ", i) and raw[i + 9:i + 12].isdigit()]


class Suite:
    def __init__(self, name):
        self.name, self.passed, self.failed = name, 0, 0

    def check(self, what, condition, detail=""):
        if condition:
            self.passed += 1
        else:
            self.failed += 1
            print(f"FAILED {self.name}: {what} {detail}", flush=True)
        return condition

    def equal(self, what, got, want):
        return self.check(what, got == want, f"got {got!r}, want {want!r}")

    def end(self):
        print(f"{self.name}: {self.passed} passed, {self.failed} failed", flush=True)
        sys.exit(1 if self.failed else 0)
