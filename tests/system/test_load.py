"""Load and time: 16 clients at once, 48 requests in flight with a queue of 16, slow clients, SIGTERM under load.

    test_load.py BINARY [BUNDLE|- [SIGTERMS]]     SIGTERMS: how often the daemon is stopped under load, 20
"""
import http.client
import json
import resource
import socket
import threading
import time

from harness import arguments, Daemon, Suite, exchange, receive

BODY = json.dumps({"query": "a query of some words", "limit": 5}).encode()
JSON = {"Content-Type": "application/json"}


def in_threads(count, work):
    threads = [threading.Thread(target=work, args=(i,)) for i in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def ask(d, times, path="/search", body=BODY):
    """Statuses of `times` requests on one keep-alive connection."""
    out, connection = [], http.client.HTTPConnection("127.0.0.1", d.port, timeout=60)
    for _ in range(times):
        status, headers, _ = exchange(connection, "POST", path, body, JSON)
        out.append((status, headers.get("retry-after")))
        if headers.get("connection") == "close":
            connection.close()
    connection.close()
    return out


def sixteen_clients(suite, binary, bundle):
    got, lock = [], threading.Lock()
    with Daemon(binary, bundle) as d:
        usable = d.request("POST", "/search", BODY, JSON)[0]  # 200, or 409 of a bundle without a search model

        def work(_):
            answers = ask(d, 10)
            with lock:
                got.extend(answers)

        in_threads(16, work)
        suite.equal("16 clients: answers", len(got), 160)
        suite.equal("16 clients: statuses", {s for s, _ in got}, {usable})
        suite.equal("16 clients: exit", d.terminate(), 0)


def small_queue(suite, binary, bundle):
    got, lock = [], threading.Lock()
    with Daemon(binary, bundle, "--queue", "16") as d:
        def work(_):
            answers = ask(d, 4)
            with lock:
                got.extend(answers)

        in_threads(48, work)
        statuses = {s for s, _ in got}
        suite.check("48 in flight, queue 16: only 200 and 503", statuses <= {200, 503, 409} and len(got) == 192, str(statuses))
        suite.check("503 carries Retry-After", all(r for s, r in got if s == 503))
        print(f"48 in flight, queue 16: {sum(s == 200 for s, _ in got)} x 200, {sum(s == 503 for s, _ in got)} x 503")


def slow_clients(suite, binary, bundle):
    flags = ["--receive-timeout-ms", "1500", "--idle-timeout-ms", "1000", "--send-timeout-ms", "1500"]
    with Daemon(binary, bundle, *flags) as d:
        def drip(data):
            began = time.time()
            with socket.create_connection(("127.0.0.1", d.port), timeout=10) as s:
                try:
                    for byte in data:
                        s.sendall(bytes([byte]))
                        s.settimeout(0.1)
                        try:
                            if s.recv(100) == b"":
                                return time.time() - began
                        except TimeoutError:
                            pass
                    s.settimeout(10)
                    s.recv(1)
                except OSError:
                    pass
            return time.time() - began

        line = b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"A: " + b"b" * 200
        body = b"POST /search HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + b" " * 900
        took = {}

        def work(i):
            took[i] = drip([line, body, b"", b"G"][i])

        in_threads(4, work)
        for i, name in enumerate(["header", "body", "silence", "one byte"]):
            suite.check(f"slow client is cut: {name}", took[i] < 3.5, f"after {took[i]:.1f} s")
        with socket.create_connection(("127.0.0.1", d.port), timeout=10) as s:
            s.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            s.recv(1000)
            began = time.time()
            suite.check("idle connection is closed", receive(s) == b"" and time.time() - began < 3)
        suite.equal("exit", d.terminate(), 0)


def too_many_connections(suite, binary, bundle):
    with Daemon(binary, bundle, "--max-connections", "20") as d:
        held = [socket.create_connection(("127.0.0.1", d.port), timeout=5) for _ in range(20)]
        time.sleep(0.3)
        status, headers, _ = d.request("POST", "/search", BODY, JSON)
        suite.check("beyond the connection limit: 503", status == 503 and headers.get("retry-after"), str(status))
        suite.equal("operators still get in", d.request("GET", "/livez")[0], 200)
        for s in held:
            s.close()
        time.sleep(0.3)
        suite.check("afterwards all is well", d.request("POST", "/search", BODY, JSON)[0] != 503)


def thousand_slow_connections(suite, binary, bundle):
    """A thousand clients that send a byte now and then: others are served all the while, and the thousand are cut."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    with Daemon(binary, bundle, "--receive-timeout-ms", "4000") as d:
        held = []
        for i in range(1000):
            s = socket.create_connection(("127.0.0.1", d.port), timeout=10)
            s.sendall(b"POST /search HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n" + (b"\r\n{" if i % 2 else b""))
            held.append(s)
        began, slowest, wrong = time.time(), 0.0, 0
        while time.time() - began < 3:
            at = time.time()
            wrong += d.request("POST", "/search", BODY, JSON)[0] not in (200, 409)
            slowest = max(slowest, time.time() - at)
            for s in held[::10]:
                try:
                    s.send(b"a")
                except OSError:
                    pass
        suite.check("1,000 slow connections: others are served", wrong == 0 and slowest < 2, f"{wrong} wrong, slowest {slowest:.2f} s")
        time.sleep(2.5)
        open_still = 0
        for s in held:
            s.setblocking(False)
            try:
                open_still += s.recv(1) != b""
            except BlockingIOError:
                open_still += 1
            except OSError:
                pass
            s.close()
        suite.equal("1,000 slow connections: all are cut", open_still, 0)
        print(f"1,000 slow connections: slowest search of the others {slowest * 1000:.0f} ms")
        suite.equal("1,000 slow connections: exit", d.terminate(), 0)


def load_until_refused(port, stop, counts, keep):
    """Requests until the port refuses; a connection that was made must give a whole answer."""
    connection = None
    while True:
        try:
            if connection is None:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
                connection.connect()
        except OSError:
            return
        try:
            status, headers, _ = exchange(connection, "POST", "/search", BODY, JSON)
            counts["answered"] += 1
            counts["bad"] += status not in (200, 409, 503)
            if not keep or headers.get("connection") == "close":
                connection.close()
                connection = None
        except (OSError, http.client.HTTPException) as error:
            counts["cut"] += 1
            counts["what"] = repr(error)
            return
        if stop.is_set() and time.time() > counts["end"]:
            return


def sigterm_under_load(suite, binary, bundle, times):
    cut = bad = answered = wrong_exit = 0
    longest = 0.0
    for i in range(times):
        with Daemon(binary, bundle) as d:
            stop, per_thread = threading.Event(), [dict(answered=0, cut=0, bad=0, end=time.time() + 30) for _ in range(12)]
            threads = [threading.Thread(target=load_until_refused, args=(d.port, stop, per_thread[k], k % 2 == 0)) for k in range(12)]
            for t in threads:
                t.start()
            time.sleep(0.15 + 0.02 * (i % 7))
            began = time.time()
            wrong_exit += d.terminate(timeout=30) != 0
            longest = max(longest, time.time() - began)
            stop.set()
            for t in threads:
                t.join()
            for c in per_thread:
                answered, cut, bad = answered + c["answered"], cut + c["cut"], bad + c["bad"]
                if c["cut"]:
                    print("cut:", c["what"])
    print(f"{times} SIGTERMs under load: {answered} answers, {cut} cut, {wrong_exit} wrong exits, longest {longest:.2f} s")
    suite.check("SIGTERM under load: nobody is cut", cut == 0 and bad == 0 and answered > times, f"{cut} cut, {bad} bad of {answered}")
    suite.check("SIGTERM under load: exit 0 within 10 s", wrong_exit == 0 and longest < 10, f"{wrong_exit} {longest:.1f}")


def main():
    binary, bundle, rest = arguments()
    suite = Suite("load")
    sixteen_clients(suite, binary, bundle)
    small_queue(suite, binary, bundle)
    slow_clients(suite, binary, bundle)
    too_many_connections(suite, binary, bundle)
    thousand_slow_connections(suite, binary, bundle)
    sigterm_under_load(suite, binary, bundle, int(rest[0]) if rest else 20)
    suite.end()


if __name__ == "__main__":
    main()
