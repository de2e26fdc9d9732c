"""Web servers on loopback: one with byte ranges that can break off, and a hub made of it."""

import contextlib
import hashlib
import http.server
import json
import threading

COMMIT = "c" * 40


class FileServer(http.server.ThreadingHTTPServer):
    """Serves `files` (path -> bytes), and notes what it was asked.

    Attributes:
      files: what there is.
      breaks: bytes after which the next answers break off, one number an answer.
      asked: (method, path, Range header) of every request.
      ranges: whether ranges are understood.
      version: of the files, as their ETag; None: by their content.
    """

    daemon_threads = True

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.breaks, self.asked, self.ranges = dict(files), [], [], True
        self.version = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        """A client that went away is no news."""


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        """Nothing on the console."""

    def do_HEAD(self):
        self.do_GET(body=False)

    def do_GET(self, body=True):
        server, path = self.server, self.path.partition("?")[0]
        wanted = self.headers.get("Range")
        server.asked.append((self.command, path, wanted))
        content = server.files.get(path)
        if content is None:
            self.send_response(404)
            self.send_header(
                "X-Error-Code", "EntryNotFound" if "/resolve/" in path else "RepoNotFound"
            )
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        tag = server.version or f'"{hashlib.sha256(content).hexdigest()}"'
        start, status = 0, 200
        if wanted and server.ranges and self.headers.get("If-Range", tag) == tag:
            start, status = int(wanted.removeprefix("bytes=").rstrip("-")), 206
        if status == 206 and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(status)
        self.send_header("ETag", tag)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content) - start))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if body:
            end = start + server.breaks.pop(0) if server.breaks else len(content)
            self.wfile.write(content[start:end])
            self.close_connection = True


@contextlib.contextmanager
def serving(files):
    """A running `FileServer`."""
    server = FileServer(files)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def hub_files(repo, files):
    """The answers of a hub that has one repository: path in it -> bytes."""
    tree = [
        {
            "type": "file",
            "path": name,
            "size": len(content),
            "oid": hashlib.sha1(content).hexdigest(),
        }
        for name, content in files.items()
    ]
    answers = {
        f"/api/models/{repo}/revision/main": {
            "id": repo, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files],
        },
        f"/api/models/{repo}/tree/{COMMIT}": tree,
    }  # fmt: skip
    served = {path: json.dumps(answer).encode() for path, answer in answers.items()}
    for revision in ("main", COMMIT):
        served |= {f"/{repo}/resolve/{revision}/{name}": c for name, c in files.items()}
    return served
