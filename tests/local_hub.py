"""A server on 127.0.0.1 that speaks what of the Hugging Face Hub's API a push uses; it keeps the bytes that arrive.

Routes and payloads: those that huggingface_hub sends (create_repo, model_info, preupload, Git LFS batch, commit).
The rules for a card's metadata: hub-docs, modelcard.md.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

TOKEN = "hf_token_of_the_tests"
OWNER = "me"


@dataclass
class Repository:
    """What was pushed: files by name, and one entry a commit."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    large: set[str] = field(default_factory=set)
    commits: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class LocalHub:
    """The state of the server. refusals: answers by the beginning of a route, instead of the right ones."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)
    large_from_bytes: int = 50_000
    ignored: set[str] = field(default_factory=set)

    # ---- the API: each answers with a status and JSON ----

    def create(self, asked: dict[str, Any]) -> tuple[int, Any]:
        owner = asked.get("organization") or OWNER
        if owner != OWNER:
            return 403, {"error": f"You don't have the rights to create a model under the namespace {owner!r}"}
        name = f"{owner}/{asked['name']}"
        if name in self.repositories:
            return 409, {"error": "You already created this model repo"}
        private = asked["visibility"] == "private" if "visibility" in asked else bool(asked.get("private"))
        self.repositories[name] = Repository(private)
        return 200, {"url": f"{self.url}/{name}", "name": name, "id": "0"}

    def info(self, name: str) -> tuple[int, Any]:
        repository = self.repositories.get(name)
        if repository is None:
            return 404, {"error": "Repository not found"}
        files = []
        for path, content in sorted(repository.files.items()):
            entry: dict[str, Any] = {"rfilename": path, "size": len(content), "blobId": git_blob(content)}
            if path in repository.large:
                digest = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"size": len(content), "sha256": digest, "pointerSize": 130}
            files.append(entry)
        return 200, {"id": name, "private": repository.private, "sha": "c" * 40, "siblings": files}

    def validate(self, asked: dict[str, Any]) -> tuple[int, Any]:
        errors = metadata_errors(asked["content"])
        return (400 if errors else 200), {"errors": [{"message": text} for text in errors], "warnings": []}

    def preupload(self, name: str, asked: dict[str, Any]) -> tuple[int, Any]:
        answers = []
        for file in asked["files"]:
            there = self.repositories[name].files.get(file["path"])
            large = file["size"] >= self.large_from_bytes
            oid = None if there is None else hashlib.sha256(there).hexdigest() if large else git_blob(there)
            answers.append(
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if large else "regular",
                    "shouldIgnore": file["path"] in self.ignored,
                    "oid": oid,
                }
            )
        return 200, {"files": answers}

    def lfs_batch(self, asked: dict[str, Any]) -> tuple[int, Any]:
        objects = []
        for item in asked["objects"]:
            answer = {"oid": item["oid"], "size": item["size"]}
            if item["oid"] not in self.blobs:
                answer["actions"] = {
                    "upload": {"href": f"{self.url}/storage/{item['oid']}"},
                    "verify": {"href": f"{self.url}/verify/{item['oid']}"},
                }
            objects.append(answer)
        return 200, {"transfer": "basic", "objects": objects}

    def commit(self, name: str, lines: list[dict[str, Any]]) -> tuple[int, Any]:
        repository = self.repositories[name]
        header = lines[0]["value"]
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                blob = self.blobs.get(value["oid"])
                if blob is None or len(blob) != value["size"]:
                    return 400, {"error": f"{value['path']} was not uploaded"}
                repository.files[value["path"]] = blob
                repository.large.add(value["path"])
            else:
                return 400, {"error": f"unknown operation {line['key']}"}
        repository.commits.append(header)
        return 200, {"commitUrl": f"{self.url}/{name}/commit/{'c' * 40}", "commitOid": "c" * 40, "success": True}

    def answer(self, route: str, body: bytes) -> tuple[int, Any]:
        """The answer to `METHOD /path`."""
        method, _, path = route.partition(" /")
        parts = path.split("/")
        match [method, *parts]:
            case ["POST", "api", "repos", "create"]:
                return self.create(json.loads(body))
            case ["POST", "api", "validate-yaml"]:
                return self.validate(json.loads(body))
            case ["GET", "api", "models", owner, name, *_]:
                return self.info(f"{owner}/{name}")
            case ["POST", "api", "models", owner, name, "preupload", "main"]:
                return self.preupload(f"{owner}/{name}", json.loads(body))
            case ["POST", "api", "models", owner, name, "commit", "main"]:
                return self.commit(f"{owner}/{name}", [json.loads(line) for line in body.splitlines()])
            case ["POST", _, _, "info", "lfs", "objects", "batch"]:
                return self.lfs_batch(json.loads(body))
            case ["PUT", "storage", oid]:
                if hashlib.sha256(body).hexdigest() != oid:
                    return 400, {"error": "the bytes are not those of the checksum"}
                self.blobs[oid] = body
                return 200, {}
            case ["POST", "verify", oid]:
                return (200 if oid in self.blobs else 404), {}
        return 404, {"error": f"no route {route}"}


def git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def metadata_errors(card: str) -> list[str]:
    """What the Hub would say of the YAML on top of a card; nothing where it is right."""
    if not card.startswith("---\n"):
        return ["there is no metadata"]
    try:
        data = yaml.safe_load(card.split("---\n", 2)[1])
    except yaml.YAMLError as error:
        return [f"no valid YAML: {error}"]
    errors = []
    if not isinstance(data.get("license"), str):
        errors.append('"license" must be a string')
    for number, entry in enumerate(data.get("model-index", [])):
        where = f"model-index[{number}]"
        if not isinstance(entry.get("name"), str):
            errors.append(f'"{where}.name" is required')
        if not isinstance(entry.get("results"), list):
            errors.append(f'"{where}.results" must be a list')
            continue
        for place, result in enumerate(entry["results"]):
            here = f"{where}.results[{place}]"
            for part, keys in (("task", ("type",)), ("dataset", ("type", "name"))):
                errors += [f'"{here}.{part}.{key}" is required' for key in keys if not result.get(part, {}).get(key)]
            metrics = result.get("metrics")
            if not isinstance(metrics, list) or not metrics:
                errors.append(f'"{here}.metrics" must be a list with an entry')
                continue
            for metric in metrics:
                if not isinstance(metric.get("type"), str) or not isinstance(metric.get("value"), int | float):
                    errors.append(f'"{here}.metrics" need a type and a value')
    return errors


class _Handler(BaseHTTPRequestHandler):
    hub: LocalHub
    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b"".join(self._chunks())
        route = f"{self.command} {self.path.partition('?')[0]}"
        self.hub.requests.append(route)
        status, value = self._status_and_value(route, body)
        payload = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        if status == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        self.wfile.write(payload)

    do_GET = do_POST = do_PUT = handle_any

    def _status_and_value(self, route: str, body: bytes) -> tuple[int, Any]:
        for beginning, (status, text) in self.hub.refusals.items():
            if route.startswith(beginning):
                return status, {"error": text}
        # Storage has addresses that are signed, and a card may be validated by anyone.
        free = route.startswith(("PUT /storage/", "POST /api/validate-yaml"))
        if not free and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return 401, {"error": "Invalid username or password."}
        return self.hub.answer(route, body)

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def local_hub() -> Iterator[LocalHub]:
    """A running server, stopped at the end."""
    hub = LocalHub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
