"""A post-receive hook that posts each ref as Gitea does: SOCKET, SECRET_FILE and PATH are arguments. The last answer is written."""

import hashlib
import hmac
import json
import socket
import sys
import uuid
from http.client import HTTPConnection

place, secret_file, path = sys.argv[1:4]
secret = open(secret_file, "rb").read()
for line in sys.stdin:
    before, after, ref = line.split()
    body = json.dumps({"ref": ref, "before": before, "after": after, "commits": []}, indent=2).encode()
    signature = hmac.new(secret, body, hashlib.sha256).hexdigest()
    # Gitea sends those of its ancestors as well.
    headers = {"Content-Type": "application/json", "X-Hub-Signature-256": f"sha256={signature}"}
    for name in ("Gitea", "Gogs", "GitHub"):
        headers |= {f"X-{name}-Delivery": str(uuid.uuid4()), f"X-{name}-Event": "push"}
    headers |= {"X-Gitea-Signature": signature, "X-Gogs-Signature": signature}
    connection = HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(place)
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    with open("answered", "w") as file:
        file.write(f"{answer.status} {answer.read().decode()}")
