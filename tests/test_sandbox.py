"""Programs in the sandbox: what they can do, what they cannot, and that a model is told so in a line."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from promptlab import Reply, arun, run
from promptlab.errors import SetupError
from promptlab.strategies import react
from promptlab.testing import Script
from promptlab.tools.python import observed, python
from promptlab.tools.sandbox import WAYS, Limits, Sandbox
from promptlab.types import ToolCall

LIMITS = Limits(cpu_s=1, wall_s=30.0)  # machines are busy: it is processor time that ends what does not end
SECRET = "a secret of the host's"


@pytest.fixture(scope="module", params=WAYS)
def sandbox(request):
    """Each way to isolate that works on this machine."""
    try:
        made = Sandbox(LIMITS, isolation=request.param)
    except SetupError as error:
        pytest.skip(f"no isolation by {request.param} on this machine: {error}")
    yield made
    made.close()


def test_a_program_prints_and_nothing_of_it_is_left(sandbox):
    assert sandbox.run("x = 6\nprint(x * 7)").stdout == "42\n"
    assert "NameError" in sandbox.run("print(x)").stderr


def test_what_a_program_says_and_how_it_ends_is_told(sandbox):
    ran = sandbox.run("import sys\nprint('é', file=sys.stderr)\nsys.exit(3)")
    assert (ran.stdout, ran.stderr, ran.code, ran.timed_out, ran.cut) == ("", "é\n", 3, False, False)


HOSTILE = {
    "fork bomb": ("import os\nwhile True:\n    os.fork()", "not permitted"),
    "processes by the library": ("import subprocess\nsubprocess.run(['sh', '-c', 'id'])", "not permitted"),
    "while True": ("while True:\n    pass", "stopped before it ended: a program has 1 s"),
    "10 GB": ("x = bytearray(10 * 2**30)", "MemoryError"),
    "10 GB bit by bit": ("x = []\nwhile True:\n    x.append(bytearray(2**24))", "MemoryError"),
    "a file of 10 GB": ("f = open('large', 'wb')\nfor _ in range(10_000):\n    f.write(bytes(2**20))", "Error: "),
    "files without end": ("for i in range(10**6):\n    open(str(i), 'w').close()", "Error: "),
    "endless output": ("while True:\n    print('x' * 1000)", "printed more than 64 kB"),
    "endless errors": ("import sys\nwhile True:\n    sys.stderr.write('x' * 1000)", "printed more than 64 kB"),
    "/etc": ("print(open('/etc/passwd').read())", "Error: "),
    "the environment of others": ("print(open('/proc/1/environ').read())", "Error: "),
    "the network": ("import socket\nsocket.create_connection(('127.0.0.1', 80))", "not permitted"),
    "unix sockets": ("import socket\nsocket.socket(socket.AF_UNIX)", "not permitted"),
    "killing others": ("import os\nos.kill(-1, 9)", "not permitted"),
    "killing its parent": ("import os\nos.kill(os.getppid(), 9)", "not permitted"),
    "new namespaces": ("import ctypes\nprint(ctypes.CDLL(None).unshare(0x10000000))", "-1"),
    "mounts": ("import ctypes\nprint(ctypes.CDLL(None).mount(b'x', b'/tmp', b'tmpfs', 0, 0))", "-1"),
    "tracing": ("import ctypes\nprint(ctypes.CDLL(None).ptrace(0, 0, 0, 0))", "-1"),
    "modes of files": ("import os\nos.chmod('/', 0o777)", "not permitted"),
    "times of files": ("import os\nos.utime('/tmp')", "not permitted"),
    "signals by files": (
        "import fcntl, os\nr, w = os.pipe()\nfcntl.fcntl(r, fcntl.F_SETOWN, os.getppid())",
        "not permitted",
    ),
    "memory that no limit counts": ("import os\nos.memfd_create('x')", "not permitted"),
    "more limits": ("import resource as r\nr.setrlimit(r.RLIMIT_AS, (-1, -1))", "Error: "),
    "a shell": ("import os\nos.execv('/bin/sh', ['sh', '-c', 'id'])", "Error: "),
    "a crash": ("import ctypes\nctypes.string_at(0)", "signal 11"),
    "threads without end": (
        "import threading, time\nwhile True:\n    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
        "Error: ",
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_hostile_reaches_nothing_ends_no_run_and_is_told_in_a_line(sandbox, what):
    program, told = HOSTILE[what]
    model = Script([Reply(calls=(ToolCall("1", "python", {"program": program}),)), Reply(text="done")])
    answer = run(react("q", [python(sandbox=sandbox)]), model)
    assert answer.value == "done"
    [seen] = [message.content for message in answer.trace if message.role == "tool"]
    assert told in seen
    assert len(seen) < 4_300
    assert sandbox.run("print(1)").stdout == "1\n"


def test_the_environment_is_empty(sandbox, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    made = Sandbox(LIMITS, isolation=sandbox.isolation)
    assert set(made.run("import os\nprint(*os.environ)").stdout.split()) <= {
        "LC_CTYPE",
        "LD_LIBRARY_PATH",
    }  # Python's own
    made.close()


def test_nothing_of_the_host_can_be_read(sandbox, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text(SECRET)
    for path in (secret, os.path.expanduser("~/.bashrc"), __file__, "/etc/hostname", "/proc/self/environ", "/dev/mem"):
        ran = sandbox.run(f"print(open({str(path)!r}, 'rb').read(1))")
        assert ran.code == 1, path
        assert ran.stdout == ""


def test_nothing_of_the_host_can_be_written(sandbox, tmp_path):
    target = tmp_path / "new.txt"
    tmp_path.chmod(0o777)
    library = os.path.dirname(os.__file__)
    for path in (str(target), f"{library}/planted.py", "/usr/lib/planted"):
        assert sandbox.run(f"open({path!r}, 'w').write('x')").code == 1
    assert not target.exists()
    assert not os.path.exists(f"{library}/planted.py")


def test_no_file_of_the_hosts_is_open_in_a_program(sandbox):
    seen = "try:\n        print(i, os.fstat(i))\n    except OSError:\n        pass"
    assert sandbox.run(f"import os\nfor i in range(3, 64):\n    {seen}\nprint('seen')").stdout == "seen\n"


def test_programs_run_off_the_main_thread_and_many_at_once(sandbox):
    with ThreadPoolExecutor(4) as pool:
        ran = list(pool.map(lambda i: sandbox.run(f"print({i} * {i})"), range(12)))
    assert [int(each.stdout) for each in ran] == [i * i for i in range(12)]


def test_programs_run_in_an_event_loop(sandbox):
    def replies():
        return [Reply(calls=(ToolCall("1", "python", {"program": "print(6 * 7)"}),)), Reply(text="done")]

    async def asked():
        model = Script(replies())
        model.batched = False
        return await arun(react("q", [python(sandbox=sandbox)]), model)

    assert [m.content for m in asyncio.run(asked()).trace if m.role == "tool"] == ["42"]


HOST = """
import sys
from promptlab.tools.sandbox import Limits, Sandbox
sandbox = Sandbox(Limits(cpu_s=60, wall_s=600), isolation=sys.argv[1])
print("ready", flush=True)
sandbox.run("import time\\ntime.sleep(600)")
"""


def test_when_the_host_is_killed_so_are_its_programs(sandbox):
    with subprocess.Popen([sys.executable, "-c", HOST, sandbox.isolation], stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == "ready\n"
        below = until(lambda: len(found := descendants(host.pid)) == 3 and found)  # orders, the watch, the program
        host.kill()
    assert until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below)) is True


def descendants(pid):
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [each for child in children for each in (child, *descendants(child))]


def until(found, patience_s=300.0):
    """What `found` gives as soon as it is true."""
    end = time.monotonic() + patience_s
    while not (result := found()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
    return result


def test_a_sandbox_that_is_closed_leaves_no_process(sandbox):
    before = set(descendants(os.getpid()))
    made = Sandbox(LIMITS, isolation=sandbox.isolation)
    assert set(descendants(os.getpid())) - before
    made.close()
    assert not set(descendants(os.getpid())) - before


def test_only_the_packages_named_can_be_imported(sandbox):
    assert "No module named 'numpy'" in sandbox.run("import numpy").stderr
    made = Sandbox(Limits(cpu_s=20, wall_s=60), packages=["mpmath"], isolation=sandbox.isolation)
    assert made.run("import mpmath\nprint(mpmath.mpf(1) + 1)").stdout == "2.0\n"
    made.close()


@pytest.mark.parametrize("program", ["\ud800", "\0", "print('\ud800')", "é" * 100, "x" * 300_000, "if"])
def test_what_is_no_program_is_told(sandbox, program):
    model = Script([Reply(calls=(ToolCall("1", "python", {"program": program}),)), Reply(text="done")])
    answer = run(react("q", [python(sandbox=sandbox)]), model)
    [seen] = [message.content for message in answer.trace if message.role == "tool"]
    assert seen.startswith("Error: ")
    assert "SetupError" not in seen


def test_a_package_that_is_not_installed_is_wrong_set_up():
    with pytest.raises(SetupError, match="nosuchpackage, which is not installed"):
        Sandbox(packages=["nosuchpackage"])


def test_where_nothing_isolates_nothing_is_run():
    with pytest.raises(SetupError, match="none is run without"):
        Sandbox(isolation="hope")


def test_what_failed_is_told_with_the_line_it_failed_in(sandbox):
    told = observed(sandbox.run("print('before')\n\n1 / 0"), LIMITS)
    assert told.startswith("before\nError: ZeroDivisionError: division by zero")
    if sandbox.isolation == "namespaces":
        assert told.endswith("(line 3)")
    assert observed(sandbox.run(""), LIMITS) == "It printed nothing."
