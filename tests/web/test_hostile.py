"""Who may ask, and what comes of hostile input: an answer that says no, no crash, and no file but those of the runs."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from firstwords.web.app import make_app
from firstwords.web.desk import Queue
from firstwords.web.refusal import Refusal
from firstwords.web.security import MOST_BODY_BYTES, host_of
from tests.web.conftest import ADDRESS, HOSTILE, pair


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "LOCALHOST", "[::1]:8000", "127.0.0.1:9"])
def test_our_own_names_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "192.168.1.7:8000", "[::2]"]
)
def test_other_names_are_refused_whatever_is_asked(client: TestClient, host: str) -> None:
    for answer in (
        client.get("/", headers={"host": host}),
        client.get("/static/page.css", headers={"host": host}),
        client.post("/api/score", json=pair(), headers={"host": host, "origin": f"http://{host}"}),
    ):
        assert answer.status_code == 403
        assert "tiny" not in answer.text


@pytest.mark.parametrize("host", ["", ":8000", "[::1", "[::1]x", "localhost:port", "a:b:c"])
def test_no_host_at_all_is_refused(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"host": host}).status_code == 400
    assert host_of(host) is None


def test_a_page_on_all_addresses_takes_addresses_and_its_names_but_no_others(two_runs: Path) -> None:
    app = make_app(two_runs, bound="0.0.0.0", names=["mymachine"])
    with TestClient(app, base_url=ADDRESS) as client:
        for host, status in (("192.168.1.7:8000", 200), ("mymachine:8000", 200), ("evil.example", 403)):
            assert client.get("/", headers={"host": host}).status_code == status


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "script"},
    ],
)
def test_requests_of_other_sites_are_refused(client: TestClient, headers: dict[str, str]) -> None:
    for address in ("/", "/api/models", "/static/common.js"):
        assert client.get(address, headers=headers).status_code == 403
    assert client.post("/api/score", json=pair(), headers=headers).status_code == 403


def test_a_link_on_another_site_may_be_followed_and_nothing_more(client: TestClient) -> None:
    followed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert client.get("/pairs", headers=followed).status_code == 200
    assert client.post("/api/score", json=pair(), headers=followed).status_code == 403
    assert client.get("/pairs").headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_only_json_is_taken(client: TestClient, kind: str) -> None:
    answer = client.post("/api/score", content=json.dumps(pair()), headers={"content-type": kind})
    assert answer.status_code == 415
    assert client.options("/api/score", headers={"origin": "http://evil.example"}).status_code == 403


def test_a_sentence_of_ten_megabytes_is_refused_before_it_is_read(client: TestClient) -> None:
    answer = client.post("/api/score", json=pair(good="a" * 10_000_000))
    assert answer.status_code == 413
    read = 0

    def endless() -> Iterator[bytes]:
        nonlocal read
        # Without its length told first.
        for _ in range(1_000):
            read += 10_000
            yield b"a" * 10_000

    answer = client.post("/api/score", content=endless(), headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert read <= 10_000_000
    assert "KiB" in answer.json()["error"]["what"]


def test_a_body_within_the_limit_is_answered(client: TestClient) -> None:
    answer = client.post("/api/score", json=pair(good="a" * (MOST_BODY_BYTES // 2)))
    assert "characters" in answer.json()["error"]["what"]


OUTSIDE = [
    "..",
    "../secret",
    "..%2fsecret",
    "%2e%2e%2fsecret",
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "tiny/..",
    "tiny%00",
    ".",
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_parameter_leads_out_of_the_workspace(workspace: Path, name: str) -> None:
    secret = workspace.parent / "secret"
    shutil.copytree(workspace / "tiny", secret)
    (secret / "report.html").write_text("the secret")
    (workspace / "tiny" / "charts").mkdir()
    (workspace / "tiny" / "secret.svg").write_text("the secret")
    with TestClient(make_app(workspace), base_url=ADDRESS, raise_server_exceptions=False) as client:
        answers = [
            client.get(f"/runs/{name}"),
            client.get(f"/runs/{name}/report"),
            client.get(f"/runs/tiny/charts/{name}"),
            client.get(f"/runs/tiny/charts/{name}.svg"),
            client.get(f"/static/{name}"),
            client.get(f"/api/suites/{name}"),
            client.get("/compare", params={"run": name}),
            client.post("/api/score", json=pair(name)),
            client.post("/api/next", json={"model": f"tiny@{name}", "text": "a"}),
            client.post("/api/write", json={"model": name, "text": "a"}),
            client.post("/api/report", json={"run": name}),
            client.post("/api/compare", json={"a": name, "b": "tiny", "result": name}),
        ]
    for answer in answers:
        assert "the secret" not in answer.text
        assert "root:" not in answer.text
        # Where dots are taken away on the way, the runs' own page is what is asked for.
        assert answer.status_code in (404, 422) or answer.url.path in ("/", "/runs/tiny")


def test_links_that_lead_out_of_a_run_are_not_followed(workspace: Path) -> None:
    secret = workspace.parent / "secret.svg"
    secret.write_text("the secret")
    (workspace / "tiny" / "report.html").symlink_to(secret)
    (workspace / "tiny" / "charts").mkdir()
    (workspace / "tiny" / "charts" / "loss.svg").symlink_to(secret)
    with TestClient(make_app(workspace), base_url=ADDRESS) as client:
        for address in ("/runs/tiny/report", "/runs/tiny/charts/loss.svg"):
            answer = client.get(address)
            assert answer.status_code == 403
            assert "the secret" not in answer.text


def test_markup_of_names_recipes_and_sentences_is_text(workspace: Path) -> None:
    shutil.copytree(workspace / "tiny", workspace / HOSTILE)
    recipe = workspace / HOSTILE / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("A model of the tests", "</script><script>alert(2)</script>"))
    with TestClient(make_app(workspace), base_url=ADDRESS) as client:
        address = f"/runs/{HOSTILE.replace(' ', '%20').replace('<', '%3C').replace('>', '%3E')}"
        for page in ("/", address, f"/compare?run=tiny&run={address.removeprefix('/runs/')}"):
            text = client.get(page).text
            assert "&lt;img src=x onerror=alert(1)&gt;" in text
            assert "<img" not in text
            assert "<script>" not in text
        missing = client.get("/runs/%3Cscript%3Ealert(1)%3C%2Fscript%3E")
        assert missing.status_code == 404
        assert "<script>alert" not in missing.text
        answer = client.post("/api/score", json=pair(good="<script>alert(1)</script>"))
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_hundred_requests_at_once_are_all_answered(client: TestClient) -> None:
    client.post("/api/score", json=pair())

    def ask(number: int) -> int:
        return client.post("/api/score", json=pair(good=f"The teacher number {number} sleeps.")).status_code

    with ThreadPoolExecutor(100) as pool:
        statuses = list(pool.map(ask, range(100)))
    assert set(statuses) <= {200, 503}
    assert statuses.count(200) >= 50
    assert ask(1) == 200


def test_more_than_the_queue_holds_is_refused_at_once() -> None:
    import asyncio

    async def crowd() -> list[object]:
        queue = Queue("test", most_waiting=3)
        work = [queue.do(lambda: time.sleep(0.05)) for _ in range(10)]
        found = await asyncio.gather(*work, return_exceptions=True)
        assert await queue.do(lambda: "free again") == "free again"
        queue.close()
        return list(found)

    found = asyncio.run(crowd())
    refused = [one for one in found if isinstance(one, Refusal)]
    assert (len(refused), found.count(None)) == (7, 3)
    assert {one.status for one in refused} == {503}


def test_a_model_folder_that_disappears_is_a_message(workspace: Path, own_client: TestClient) -> None:
    assert own_client.post("/api/score", json=pair()).status_code == 200
    shutil.rmtree(workspace / "tiny")
    for answer in (own_client.post("/api/score", json=pair()), own_client.get("/runs/tiny")):
        assert answer.status_code == 404
        assert "there is no" in answer.text
    assert 'data-run="tiny"' not in own_client.get("/").text
    (workspace / "tiny-hot" / "training" / "checkpoints" / "last" / "model.safetensors").unlink()
    names = [model["name"] for model in own_client.get("/api/models").json()]
    assert "tiny-hot" in names
    damaged = [own_client.post("/api/score", json=pair(name)) for name in names]
    assert {answer.status_code for answer in damaged} == {200, 409}
    assert all("error" in answer.json() for answer in damaged if answer.status_code == 409)


@pytest.mark.parametrize("content", ["", "{", "not = toml = at all", "name = 1"])
def test_damaged_runs_do_not_hide_the_others(workspace: Path, own_client: TestClient, content: str) -> None:
    (workspace / "tiny" / "recipe.toml").write_text(content)
    (workspace / "tiny" / "training" / "metrics.jsonl").write_bytes(b'{"step": "x"}\n\xff\xfe\n[1]\n{"step": 1, "tr')
    (workspace / "tiny" / "evaluation" / "grammar.firstwords.json").write_text("[]")
    assert 'data-run="tiny-hot"' in own_client.get("/").text
    assert own_client.get("/runs/tiny").status_code == 200
    assert own_client.get("/compare", params={"run": ["tiny", "tiny-hot"]}).status_code == 200
    assert own_client.get("/api/models").status_code == 200
