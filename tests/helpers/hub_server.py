"""A server on loopback that answers as the Hugging Face Hub does what its library asks for a model's folder.

The addresses, headers and bodies are those that huggingface_hub exchanges with the Hub: of a repository's files,
creation, and commits with small files inside and large ones by Git LFS beside. Xet, which the Hub prefers for large
files, is a protocol of its own: `serving` switches it off in the library.
"""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading

import pytest
from huggingface_hub import constants

TOKEN = "hf_of_the_test"


class Repository:
    """Files of each commit, the last one being main."""

    def __init__(self, private=False, commits=()):
        self.private = private
        self.commits = dict(commits)

    def commit(self, files):
        """A commit with these files beside those before, and its name."""
        before = list(self.commits.values())[-1] if self.commits else {}
        name = hashlib.sha1(repr((len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits[name] = {**before, **files}
        return name

    def at(self, revision):
        """The name and the files of a commit, or None."""
        if revision == "main" and self.commits:
            revision = list(self.commits)[-1]
        return (revision, self.commits[revision]) if revision in self.commits else None


class Hub(http.server.BaseHTTPRequestHandler):
    """The server has the state: `repositories` by name, `objects` by SHA-256, `asked` ("GET /a/b", ...), and `full`."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_HEAD(self):
        self.answer_read()

    def do_GET(self):
        self.answer_read()

    def do_PUT(self):
        if self.server.full:
            self.body()
            return self.send(403, {"error": "Storage limit reached"})
        self.server.objects[self.path.rpartition("/")[2]] = self.body()
        self.send(200)

    def do_POST(self):
        self.server.asked.append(f"POST {self.path}")
        body = self.body()
        if self.path == "/api/validate-yaml":
            return self.send(200, {"errors": [], "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.send(401, {"error": "Invalid credentials in Authorization header"})
        if self.path == "/api/repos/create":
            given = json.loads(body)
            name = f"{given['organization']}/{given['name']}"
            status = 409 if name in self.server.repositories else 200
            self.server.repositories.setdefault(name, Repository(_is_private(given)))
            self.server.repositories[name].commit({".gitattributes": b""}) if status == 200 else None
            return self.send(status, {"url": f"{self.server.address}/{name}", "name": name})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", self.path):
            mode = {True: "lfs", False: "regular"}
            files = [
                {"path": f["path"], "uploadMode": mode[f["path"].endswith(".safetensors")], "shouldIgnore": False}
                for f in json.loads(body)["files"]
            ]
            return self.send(200, {"files": files})
        if found := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", self.path):
            objects = [
                {**one, "actions": {"upload": {"href": f"{self.server.address}/objects/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            return self.send(200, {"transfer": "basic", "objects": objects})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", self.path):
            files = {}
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[value["path"]] = self.server.objects[value["oid"]]
            name = self.server.repositories[found[1]].commit(files)
            return self.send(200, {"commitUrl": f"{self.server.address}/{found[1]}/commit/{name}", "commitOid": name})
        return self.send(500, {"error": f"the test's Hub knows no POST {self.path}"})

    def answer_read(self):
        self.server.asked.append(f"{self.command} {self.path}")
        path = self.path.partition("?")[0]
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if not found and not file:
            return self.send(500, {"error": f"the test's Hub knows no {self.command} {path}"})
        name, revision = (found[1], found[3] or "main") if found else (file[1], file[2])
        repository = self.server.repositories.get(name)
        if repository is None or (repository.private and self.headers.get("Authorization") != f"Bearer {TOKEN}"):
            # To those who may not see it a private repository is none.
            return self.send(401, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        if repository.at(revision) is None:
            return self.send(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
        commit, files = repository.at(revision)
        if file:
            if file[3] not in files:
                return self.send(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
            content = files[file[3]]
            headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": commit}
            return self.send(200, content, headers)
        if found[2] == "tree":
            listed = [
                {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for path, content in files.items()
            ]
            return self.send(200, listed)
        siblings = [{"rfilename": path} for path in files]
        return self.send(200, {"id": name, "sha": commit, "siblings": siblings, "private": repository.private})

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def send(self, status, content=b"", headers=()):
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
        self.send_response(status)
        for key, value in {**dict(headers), "Content-Length": len(content)}.items():
            self.send_header(key, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _is_private(given):
    """As versions 1 and 2 of the library say it."""
    return bool(given.get("private")) or given.get("visibility") == "private"


@contextlib.contextmanager
def serving(cache):
    """A Hub that the library asks in here, with a cache in a folder of its own and no token."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.repositories, server.objects, server.asked = {}, {}, []
    server.full = False
    server.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(constants, "ENDPOINT", server.address)
            template = f"{server.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
            patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
            patch.setattr(constants, "HF_HUB_CACHE", str(cache))
            patch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
            patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
            patch.delenv("HF_TOKEN", raising=False)
            yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
