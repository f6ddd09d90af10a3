"""dulwich's two servers, for the repositories below a directory: serve_dulwich.py git|http DIRECTORY

Says on stderr which port it listens on.
"""

import sys
from wsgiref.simple_server import make_server

from dulwich.server import FileSystemBackend, TCPGitServer
from dulwich.web import WSGIRequestHandlerLogger, WSGIServerLogger, make_wsgi_chain


class Below(FileSystemBackend):
    def open_repository(self, path):
        path = path.decode() if isinstance(path, bytes) else path
        return super().open_repository(path.lstrip("/"))


kind, directory = sys.argv[1:]
backend = Below(directory)
if kind == "git":
    server = TCPGitServer(backend, "127.0.0.1", 0)
else:
    server = make_server(
        "127.0.0.1",
        0,
        make_wsgi_chain(backend),
        handler_class=WSGIRequestHandlerLogger,
        server_class=WSGIServerLogger,
    )
print("listening on", server.server_address[1], file=sys.stderr, flush=True)
server.serve_forever()
