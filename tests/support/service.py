"""What a service manager does, in small: see services.rs.

`service.py manage DIR PORT` holds one process at a time that runs DIR/site/current/app.py on PORT. Each line that it reads from the FIFO
DIR/control is answered by a line in DIR/answer, once the new process listens, or has ended: "ok" or "failed".
"""
import os
import subprocess
import sys


def manage(directory, port):
    current = os.path.join(directory, "site", "current")
    # Open for both, so that no end of file comes and no open waits.
    control = os.fdopen(os.open(os.path.join(directory, "control"), os.O_RDWR), "rb", buffering=0)
    answer = os.open(os.path.join(directory, "answer"), os.O_RDWR)
    process = None
    print("ready", file=sys.stderr, flush=True)
    while control.readline():
        if process is not None:
            process.kill()
            process.wait()
        process = subprocess.Popen(
            [sys.executable, "app.py", port],
            cwd=current,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        listens = process.stdout.readline() == b"listening\n"
        os.write(answer, b"ok\n" if listens else b"failed\n")


if sys.argv[1] == "manage":
    manage(*sys.argv[2:])
