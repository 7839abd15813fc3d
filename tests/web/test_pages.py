"""Every route of the page, on real runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from firstwords.run_folder import RunFolder
from firstwords.web.app import make_app
from firstwords.web.security import PAGE_POLICY
from tests.web.conftest import ADDRESS, pair


def test_the_table_has_every_run_with_its_state_losses_and_accuracies(client: TestClient) -> None:
    text = client.get("/").text
    rows = re.findall(r'<tr role="row" data-run="([^"]+)">(.*?)</tr>', text, re.DOTALL)
    assert [name for name, _ in rows] == ["tiny", "tiny-hot"]
    for _, row in rows:
        assert "complete" in row
        assert row.count("<polyline") == 1
        assert re.search(r"grammar\.firstwords</span> <strong>\d\d\.\d%", row)


def test_an_empty_workspace_says_how_to_begin(tmp_path: Path) -> None:
    with TestClient(make_app(tmp_path / "none"), base_url=ADDRESS) as client:
        text = client.get("/").text
        assert "firstwords quickstart" in text
        assert '<div id="empty" class="empty">' in text
        assert client.get("/api/models").json() == []


def test_a_run_has_its_facts_curve_and_checkpoints(client: TestClient) -> None:
    text = client.get("/runs/tiny").text
    for part in ("LLaMA 32 x 2", "Loss in nats a token", "Kept checkpoints", "untrained", "There is no report yet"):
        assert part in text


def test_a_report_is_written_when_asked_for_and_then_shown_with_its_own_policy(own_client: TestClient) -> None:
    missing = own_client.get("/runs/tiny/report")
    assert missing.status_code == 404
    assert "firstwords report tiny" in missing.text
    assert own_client.post("/api/report", json={"run": "tiny"}).json() == {"run": "tiny", "problems": []}
    shown = own_client.get("/runs/tiny/report")
    assert shown.status_code == 200
    policy = shown.headers["content-security-policy"]
    assert "sandbox allow-scripts" in policy
    assert "allow-same-origin" not in policy
    assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]
    drawing = re.search(r'href="(charts/[^"]+\.svg)"', shown.text)
    assert drawing is not None
    assert own_client.get(f"/runs/tiny/{drawing[1]}").headers["content-type"].startswith("image/svg+xml")


def test_no_report_is_written_into_a_run_that_another_process_writes(workspace: Path) -> None:
    with (
        TestClient(make_app(workspace), base_url=ADDRESS) as client,
        RunFolder(workspace / "tiny").locked(),
    ):
        answer = client.post("/api/report", json={"run": "tiny"})
    assert answer.status_code == 409
    assert "is being written by" in answer.json()["error"]["what"]
    assert not (workspace / "tiny" / "report.html").exists()


def test_runs_stand_side_by_side_and_one_is_held_against_the_other(client: TestClient) -> None:
    page = client.get("/compare", params={"run": ["tiny", "tiny-hot"]}).text
    assert page.count('class="line n1"') >= 1
    assert "grammar.firstwords" in page
    asked = {"a": "tiny", "b": "tiny-hot", "result": "grammar.firstwords"}
    html = client.post("/api/compare", json=asked).json()["html"]
    assert re.search(r'class="verdict">.*tiny-hot', html)
    assert "subject verb agreement" in html
    assert client.post("/api/compare", json=asked | {"b": "tiny"}).status_code == 422
    assert client.post("/api/compare", json=asked | {"result": "blimp.firstwords"}).status_code == 404
    assert client.get("/compare").status_code == 422
    assert client.get("/compare", params={"run": ["tiny", "none"]}).status_code == 404


def test_models_are_the_kept_checkpoints_the_selected_one_first(client: TestClient) -> None:
    found = client.get("/api/models").json()
    assert [model["name"] for model in found if model["main"]] == ["tiny", "tiny-hot"]
    assert {"tiny@untrained", "tiny-hot@untrained"} <= {model["name"] for model in found}


def test_a_pair_is_scored_and_the_model_is_then_loaded(own_client: TestClient) -> None:
    loaded = {model["name"]: model["loaded"] for model in own_client.get("/api/models").json()}
    assert loaded["tiny"] is False
    answer = own_client.post("/api/score", json=pair()).json()
    assert [one["text"] for one in answer["sentences"]] == ["The teacher sleeps.", "The teacher sleep."]
    assert answer["columns"] == [[0, 0], [1, 1], [2, 2]]
    loaded = {model["name"]: model["loaded"] for model in own_client.get("/api/models").json()}
    assert loaded["tiny"] is True


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"model": "none", "sentences": ["a", "b"]}, 404),
        ({"model": "tiny", "sentences": ["a", "  "]}, 422),
        ({"model": "tiny", "sentences": ["a", "b" * 1_001]}, 413),
        ({"model": "tiny", "sentences": ["a"]}, 422),
        ({"model": "tiny", "sentences": ["a", "b"], "by": "letter"}, 422),
        ({"model": "tiny", "sentences": ["a", "b"], "more": 1}, 422),
        ({"model": "tiny", "sentences": ["\ud800", "b"]}, 422),
        ({"sentences": ["a", "b"]}, 422),
        ([], 422),
    ],
)
def test_what_cannot_be_scored_is_refused_with_its_reason(client: TestClient, asked: object, status: int) -> None:
    import json

    answer = client.post("/api/score", content=json.dumps(asked), headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert answer.json()["error"]["what"]


def test_next_words_and_writing(client: TestClient) -> None:
    found = client.post("/api/next", json={"model": "tiny", "text": "The teacher"}).json()
    assert len(found["tokens"]) == 20
    assert 0.99 < sum(token["probability"] for token in found["tokens"]) + found["rest"] < 1.01
    asked = {"model": "tiny", "text": "The teacher", "most_tokens": 8, "temperature": 1.0, "seed": 3}
    first, again = (client.post("/api/write", json=asked).text for _ in range(2))
    assert first == again
    assert '"ended": ' in first.splitlines()[-1]
    for wrong in ({"temperature": -1}, {"top_p": 0}, {"top_p": 1.1}, {"most_tokens": 10_000}, {"temperature": 1e999}):
        answer = client.post("/api/write", json={k: str(v) if v == 1e999 else v for k, v in (asked | wrong).items()})
        assert answer.status_code == 422, wrong


def test_a_text_may_begin_with_nothing(client: TestClient) -> None:
    assert client.post("/api/next", json={"model": "tiny", "text": ""}).status_code == 200


def test_pairs_of_a_test_set_are_there_where_it_is(client: TestClient) -> None:
    suite = client.get("/api/suites/grammar").json()
    first = suite["paradigms"][0]
    found = client.get("/api/suites/grammar/pair", params={"paradigm": first["name"], "number": 1}).json()
    assert found["good"] != found["bad"]
    for wrong, status in (
        ({"paradigm": "none", "number": 1}, 404),
        ({"paradigm": first["name"], "number": 10**6}, 404),
    ):
        assert client.get("/api/suites/grammar/pair", params=wrong).status_code == status
    wrong_number = {"paradigm": first["name"], "number": "x"}
    assert client.get("/api/suites/grammar/pair", params=wrong_number).status_code == 422


def test_a_test_set_that_is_not_there_is_not_downloaded(
    two_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRSTWORDS_CACHE", str(tmp_path / "cache"))
    with TestClient(make_app(two_runs), base_url=ADDRESS) as client:
        answer = client.get("/api/suites/blimp")
    assert answer.status_code == 404
    assert "--data" in answer.json()["error"]["do"]
    assert not list((tmp_path / "cache").rglob("*.jsonl"))


def test_blimp_is_found_under_a_data_folder(two_runs: Path, shared_data: Path) -> None:
    with TestClient(make_app(two_runs, data=[shared_data]), base_url=ADDRESS) as client:
        suite = client.get("/api/suites/blimp").json()
        assert len(suite["paradigms"]) == 67
        asked = {"paradigm": "adjunct_island", "number": 1000}
        assert client.get("/api/suites/blimp/pair", params=asked).json()["pair_id"] == "999"


def test_pages_name_only_files_of_their_own_and_allow_nothing_inline(client: TestClient) -> None:
    for address in ("/", "/runs/tiny", "/compare?run=tiny&run=tiny-hot", "/pairs", "/words", "/none"):
        answer = client.get(address)
        assert answer.headers["content-security-policy"] == PAGE_POLICY
        assert "unsafe" not in PAGE_POLICY
        assert not re.search(r"(src|href)=\"(https?:)?//", answer.text)
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*src=\"/static/)", answer.text)
        for file in re.findall(r'(?:src|href)="(/static/[^"]+)"', answer.text):
            assert client.get(file).status_code == 200, file


def test_every_script_imports_files_that_are_there(client: TestClient) -> None:
    folder = Path(__file__).parents[2] / "src" / "firstwords" / "web" / "static"
    for path in folder.glob("*.js"):
        text = client.get(f"/static/{path.name}").text
        assert "http://" not in text.replace("http://www.w3.org", "")
        for imported in re.findall(r'from "\./([^"]+)"', text):
            assert client.get(f"/static/{imported}").status_code == 200


def test_a_page_that_is_not_there_is_a_page_and_for_scripts_json(client: TestClient) -> None:
    page = client.get("/none")
    assert (page.status_code, page.headers["content-type"].partition(";")[0]) == (404, "text/html")
    assert client.get("/api/none").json()["error"]["what"] == "there is no such page"
    assert client.get("/docs").status_code == client.get("/openapi.json").status_code == 404
