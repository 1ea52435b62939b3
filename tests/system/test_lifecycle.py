"""Start and end of the daemon: addresses, ports, options, notifications to systemd, and the exit status of each refusal.

    test_lifecycle.py BINARY [BUNDLE]
"""
import os
import re
import socket
import tempfile
import time

from harness import arguments, Daemon, Suite, run


def refusals(suite, binary, bundle, folder):
    catalog, bundle = os.path.join(folder, "c.db"), os.path.abspath(bundle)
    serve = ["serve", "--model", bundle, "--catalog", catalog]
    holder = socket.socket()
    holder.bind(("127.0.0.1", 0))
    holder.listen()
    taken = f"127.0.0.1:{holder.getsockname()[1]}"
    config = os.path.join(folder, "bad.conf")
    with open(config, "w") as f:
        f.write("queue = 5\nmax-limt = 7\n")
    table = [
        ("every interface without keys", [*serve, "--listen", "0.0.0.0:0"], 78, "--insecure"),
        ("IPv6 wildcard without keys", [*serve, "--listen", "[::]:0"], 78, "--insecure"),
        ("port in use", [*serve, "--listen", taken], 69, "in use"),
        ("no port", [*serve, "--listen", "127.0.0.1"], 78, "HOST:PORT"),
        ("port too large", [*serve, "--listen", "127.0.0.1:70000"], 78, "65535"),
        ("no model", ["serve", "--catalog", catalog], 64, "--model"),
        ("no such bundle", ["serve", "--model", folder + "/none", "--catalog", catalog, "--listen", "127.0.0.1:0"], 66, "none"),
        ("unknown option", [*serve, "--lisen", "x"], 64, "--listen?"),
        ("unknown command", ["sevre"], 64, "'serve'?"),
        ("option out of bounds", [*serve, "--queue", "0"], 64, "1 .."),
        ("bad config file", [*serve, "--config", config], 78, "line 2"),
        ("no config file", [*serve, "--config", folder + "/none.conf"], 66, "none.conf"),
        ("bad task", ["train", "serch", "--model", bundle, "--data", folder], 64, "serch"),
        ("codes without ids", ["import", folder, "--codes", config, "--out", folder + "/x"], 64, "--ids"),
    ]
    for name, args, status, words in table:
        got, _, text = run(binary, *args)
        suite.check(name, got == status and words in text, f"got {got}: {text[-300:]}")
    holder.close()
    got, _, text = run(binary, "config", "check", env={"SEMINDEX_MAX_LIMT": "3"})
    suite.check("misspelt variable", got == 78 and "SEMINDEX_MAX_LIMT" in text, text)
    suite.check("no catalogue was made by refusals", not os.path.exists(catalog))


def command_line(suite, binary, folder):
    status, out, _ = run(binary, "help")
    commands = re.findall(r"^  ([a-z-]+) {2,}", out, re.M)
    suite.check("help lists the commands", status == 0 and {"serve", "import", "learn-ids", "train", "evaluate", "index"} <= set(commands), out)
    for command in commands:
        status, out, _ = run(binary, command, "--help")
        suite.check(f"{command} --help", status == 0 and out.startswith(f"semindex {command}:") and max(map(len, out.split("\n"))) <= 160)
    status, out, _ = run(binary, "version", "--json")
    suite.check("version", status == 0 and '"version"' in out, out)
    status, out, _ = run(binary, "config", "show", env={"SEMINDEX_QUEUE": "7"})
    suite.check("config show names the origin", status == 0 and re.search(r"^queue +=  ?7 +# environment$", out, re.M) is not None, out[:500])
    example = os.path.join(folder, "example.conf")
    with open(example, "w") as f:
        f.write(run(binary, "config", "example")[1])
    suite.equal("the example is valid", run(binary, "config", "check", "--config", example)[0], 0)
    packaged = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "deploy", "semindex.conf")
    suite.equal("the packaged config is valid", run(binary, "config", "check", "--config", packaged)[0], 0)
    with open(example) as a, open(packaged) as b:
        suite.check("the packaged config holds the example", b.read().endswith(a.read()), "make it again: semindex config example")


def notifications(suite, binary, bundle, folder):
    path = os.path.join(folder, "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(path)
        s.settimeout(30)
        with Daemon(binary, bundle, env={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "1000000"}) as d:
            seen = b""
            while b"WATCHDOG=1" not in seen or b"READY=1" not in seen:
                seen += s.recv(4096) + b"\n"
            suite.check("READY and WATCHDOG are sent", True)
            suite.equal("exit status", d.terminate(), 0)
            s.settimeout(1)
            try:
                while b"STOPPING=1" not in seen:
                    seen += s.recv(4096) + b"\n"
            except TimeoutError:
                pass
            suite.check("STOPPING is sent", b"STOPPING=1" in seen, repr(seen))


def ports(suite, binary, bundle):
    with Daemon(binary, bundle, wait=False) as d:
        suite.equal("alive at once", d.request("GET", "/livez")[0], 200)
        suite.check("ready says what it waits for", d.request("GET", "/readyz")[0] in (200, 503))
        d.until_ready()
        status, _, body = d.request("GET", "/readyz")
        suite.check("checks are named", status == 200 and {c["name"] for c in body["checks"]} == {"accepting", "model", "store"}, str(body))
        status, _, body = d.request("GET", "/info")
        suite.check("info states limits and model", body["limits"]["queue"] == 64 and len(body["model"]["digest"]) == 64, str(body))
        status, _, text = d.request("GET", "/metrics")
        suite.check("metrics", b"semindex_stage_seconds_bucket" in text and b'route="GET /readyz"' in text)
        with socket.create_connection(("127.0.0.1", d.port)) as idle:
            idle.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            idle.recv(1000)
            began = time.time()
            suite.equal("SIGTERM with an idle connection", d.terminate(), 0)
            suite.check("idle connections do not hold it up", time.time() - began < 5)
        with open(os.path.join(d.folder, "log.txt")) as f:
            log = f.read()
        suite.check("one line per request", len(re.findall(r"GET /info 200", log)) == 1, log[-500:])


def main():
    binary, bundle, _ = arguments()
    suite = Suite("lifecycle")
    with tempfile.TemporaryDirectory(prefix="semindex-life-") as folder:
        refusals(suite, binary, bundle, folder)
        command_line(suite, binary, folder)
        notifications(suite, binary, bundle, folder)
        ports(suite, binary, bundle)
    suite.end()


if __name__ == "__main__":
    main()
