"""A web server on this machine that can misbehave: cut a connection, ignore ranges, serve wrong bytes."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class LocalServer:
    """Serves `files`; `cuts` holds, for the next requests in turn, after how many bytes the connection is cut."""

    def __init__(self, files: dict[str, bytes]):
        self.files = files
        self.cuts: list[int | None] = []
        self.ignore_ranges = False
        self.requests: list[tuple[str, str | None]] = []
        self.url = ""

    def url_of(self, name: str) -> str:
        return self.url + name


@contextmanager
def serve(files: dict[str, bytes]):
    state = LocalServer(files)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            name, wanted = self.path.lstrip("/"), self.headers.get("Range")
            state.requests.append((name, wanted))
            if name not in state.files:
                return self.send_error(404)
            data, status, start = state.files[name], 200, 0
            if wanted and not state.ignore_ranges:
                start, status = int(wanted.removeprefix("bytes=").rstrip("-")), 206
                if start >= len(data):
                    return self.send_error(416)
            self.send_response(status)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            cut = state.cuts.pop(0) if state.cuts else None
            self.wfile.write(data[start:] if cut is None else data[start : start + cut])
            self.close_connection = True

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
