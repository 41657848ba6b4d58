"""MiniLM behind Ollama's HTTP interface, for contenders that embed by HTTP only: `/api/show` and `/api/embed`.

`python -m benchmarks.peers.server PORT COUNT_FILE`: a process of its own, on loopback, with everybody's model files and
thread count. Texts go through `SentenceTransformer.encode` in batches of 32, one request at a time.
"""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.peers.contender import MODEL_PACKAGE, THREADS


class Model:
    """The model, and how many texts it was given."""

    def __init__(self, counted: Path) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(THREADS)
        path = import_module(MODEL_PACKAGE).get_model_path()
        self._model = SentenceTransformer(str(path), device="cpu")
        self._alone, self._counted = threading.Lock(), counted
        self._model.encode(["warm"])

    def embed(self, texts: list[str]) -> list[list[float]]:
        with self._alone, self._counted.open("a", encoding="ascii") as counts:
            counts.write(f"{len(texts)}\n")
            vectors = self._model.encode(texts, batch_size=32, normalize_embeddings=True, show_progress_bar=False)
        listed: list[list[float]] = vectors.tolist()
        return listed


def serve(port: int, counted: Path) -> None:
    """Serve until killed."""
    model = Model(counted)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer({"status": "ready"})

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/api/show":
                return self._answer(
                    {"model_info": {"general.architecture": "bert", "bert.context_length": 256}, "details": {}}
                )
            texts = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
            return self._answer(
                {"model": asked["model"], "embeddings": model.embed(texts), "prompt_eval_count": len(texts)}
            )

        def _answer(self, content: dict[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing: a line per request would be measured too."""

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    serve(int(sys.argv[1]), Path(sys.argv[2]))
