"""`imgrec explore`: what its API answers, and that it is what the command line finds."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import PIL.Image
import pytest

import imgrec
from conftest import Cli, Result
from imgrec.drawing.map_file import unpacked
from serving import TOKEN, Server, serving, two_spaces
from test_readme import blocks

pytest.importorskip("starlette")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    return two_spaces(tmp_path_factory.mktemp("served"), photos)


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with serving(folder) as server:
        yield server


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def size_of(file: Path | io.BytesIO) -> tuple[int, int]:
    with PIL.Image.open(file) as picture:
        return picture.size


def without_rows(found: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in found.items() if name not in ("digests", "rows", "place")}


QUESTIONS: list[tuple[str, list[str]]] = [
    ("", []),
    ("&k=20", ["k=20"]),
    ("&space=hog&metric=cosine", ["space=hog", "metric=cosine"]),
    ("&weights=colour:3&weights=hog:1", ["extractor.weights.colour=3", "extractor.weights.hog=1"]),
    ("&weights=colour:0", ["extractor.weights.colour=0"]),
    ("&label=flower&among=*0.jpg", ["label=flower", "among=*0.jpg"]),
    ("&threshold=auto&alpha=0.2&collapse=auto", ["threshold=auto", "alpha=0.2", "collapse=auto"]),
    ("&diversity=0.5&include_self=true&copies=false", ["diversity=0.5", "include_self=true"]),
    ("&variants=turns", ["variants=turns"]),
]


@pytest.mark.parametrize(("query", "words"), QUESTIONS)
def test_what_is_found_is_what_the_command_line_finds(
    server: Server, here: Cli, folder: Path, photos: Path, query: str, words: list[str]
) -> None:
    picture = photos / "china" / "china-1-1.jpg"
    found = server.get(f"/api/recommend?q=d:{digest_of(picture)}{query}")
    store = f"store.path={folder / 'outputs' / 'gallery.sqlite'}"
    told: Result = here("recommend", picture, "format=json", store, *words)
    assert without_rows(found) == told.json()
    paths = [match["path"] for match in found["matches"]]
    assert found["digests"] == [digest_of(Path(path)) for path in paths]


def test_several_pictures_and_not_that_one(server: Server, here: Cli, folder: Path, photos: Path) -> None:
    a, b, c = (photos / "china" / f"china-0-{i}.jpg" for i in range(3))
    query = f"q=d:{digest_of(a)}&q=d:{digest_of(b)}&unlike=d:{digest_of(c)}&combine=nearest"
    found = server.get(f"/api/recommend?{query}")
    store = f"store.path={folder / 'outputs' / 'gallery.sqlite'}"
    told = here("recommend", a, b, f"unlike={c}", "combine=nearest", "format=json", store)
    assert without_rows(found) == told.json()


def test_an_upload_is_asked_with_and_never_written(
    server: Server, here: Cli, folder: Path, photos: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside.jpg"
    with PIL.Image.open(photos / "china" / "china-0-0.jpg") as picture:
        picture.resize((90, 70)).save(outside)
    before = {path for path in folder.rglob("*") if path.is_file()}
    answer = server.ask("/api/queries", "POST", outside.read_bytes(), Content_Type="image/jpeg")
    assert answer.status == 201
    q = answer.json()["q"]
    assert q == f"u:{digest_of(outside)}"
    found = server.get(f"/api/recommend?q={q}&k=7")
    store = f"store.path={folder / 'outputs' / 'gallery.sqlite'}"
    told = here("recommend", outside, "k=7", "format=json", store).json()
    assert found.pop("query") == f"upload://{digest_of(outside)}"
    assert without_rows(found) == {name: value for name, value in told.items() if name != "query"}
    shown = server.ask(f"/api/thumbs/{q[2:]}/96.webp")
    assert max(size_of(io.BytesIO(shown.body))) == 96
    assert {path for path in folder.rglob("*") if path.is_file()} == before


def test_pictures_of_the_gallery(server: Server, photos: Path) -> None:
    picture = photos / "flower" / "flower-1-1.jpg"
    for side in (48, 96, 256):
        answer = server.ask(f"/api/thumbs/{digest_of(picture)}/{side}.webp")
        assert (answer.status, answer.headers["Content-Type"]) == (200, "image/webp")
        assert "immutable" in answer.headers["Cache-Control"]
        assert max(size_of(io.BytesIO(answer.body))) == side
    again = server.ask(f"/api/thumbs/{digest_of(picture)}/48.webp")
    assert again.status == 200
    whole = server.ask(f"/api/images/{digest_of(picture)}")
    assert size_of(io.BytesIO(whole.body)) == size_of(picture)
    for path in (
        f"/api/thumbs/{digest_of(picture)}/50.webp",
        f"/api/thumbs/{'0' * 64}/48.webp",
        "/api/images/a.jpg",
    ):
        assert server.ask(path).status == 404


def test_a_map_is_made_and_its_points_are_pictures(server: Server, photos: Path) -> None:
    spaces = server.get("/api/gallery")["spaces"]
    name = f"{spaces[0]['key']}~pca"
    assert name in server.get("/api/gallery")["maps"]
    assert server.get(f"/api/maps/{name}")["state"] == "absent"
    assert server.ask(f"/api/maps/{name}/positions").status == 404
    about = server.made(name)
    assert (about["count"], about["is_outdated"]) == (40, False)
    assert about["labels"] == [["china", 20], ["flower", 20]]
    answer = server.ask(f"/api/maps/{name}/positions")
    assert answer.headers["Content-Encoding"] == "gzip"
    points = unpacked(answer.body, 2)
    assert points.shape == (40, 2)
    labels = unpacked(server.ask(f"/api/maps/{name}/labels").body, 1)
    items = server.get(f"/api/maps/{name}/items?rows=" + ",".join(map(str, range(40))))["items"]
    assert {item["path"] for item in items} == {str(path) for path in photos.rglob("*.jpg")}
    assert [about["labels"][label][0] for (label,) in labels.tolist()] == [item["label"] for item in items]

    query = items[3]
    found = server.get(f"/api/recommend?q=d:{query['digest']}&map={name}")
    assert [found["place"]["x"], found["place"]["y"]] == points[3].tolist()
    by_row = {item["row"]: item["path"] for item in items}
    assert [by_row[row] for row in found["rows"]] == [match["path"] for match in found["matches"]]

    picture = Path(query["path"]).read_bytes()
    asked = server.ask(f"/api/queries?maps={name}", "POST", picture, Content_Type="image/jpeg").json()
    place = asked["places"][name]
    assert [place["x"], place["y"], place["spread"]] == [*points[3].tolist(), 0]

    other = f"{spaces[1]['key']}~pca"
    server.made(other)
    moved = unpacked(server.ask(f"/api/maps/{other}/positions?order={name}").body, 2)
    own = unpacked(server.ask(f"/api/maps/{other}/positions").body, 2)
    theirs = server.get(f"/api/maps/{other}/items?rows=" + ",".join(map(str, range(40))))["items"]
    row_of = {item["path"]: item["row"] for item in theirs}
    assert moved.tolist() == [own[row_of[item["path"]]].tolist() for item in items]


def test_a_selection_is_counted_and_goes_out_as_csv(server: Server) -> None:
    name = f"{server.get('/api/gallery')['default']}~pca"
    server.made(name)
    rows = [5, 1, 30, 1]

    def selected(**more: str) -> bytes:
        body = json.dumps({"map": name, "rows": rows, **more})
        answer = server.ask("/api/selections", "POST", body, Content_Type="application/json")
        assert answer.status == 200
        return answer.body

    counted = json.loads(selected())
    lines = selected(format="csv").decode().splitlines()
    assert lines[0] == "row,path,label,digest"
    assert [int(line.split(",")[0]) for line in lines[1:]] == [5, 1, 30]
    assert counted["count"] == sum(counted["labels"].values()) == 3
    for wrong in (f'{{"map": "{name}", "rows": {rows}}}' for rows in ("[99]", "[-1]", "[true]", '"1"', "null")):
        assert server.ask("/api/selections", "POST", wrong, Content_Type="application/json").status == 400
    for wrong in ("[]", "", '{"rows": [1]}', '{"map": "a~pca", "rows": [1]}'):
        assert server.ask("/api/selections", "POST", wrong, Content_Type="application/json").status == 400


def test_duplicates_are_those_of_the_command_line(server: Server, here: Cli, folder: Path) -> None:
    store = f"store.path={folder / 'outputs' / 'gallery.sqlite'}"
    found = server.get("/api/duplicates?space=colour&distance=0.3&keep=first&label=flower")
    told = here("duplicates", "space=colour", "distance=0.3", "keep=first", "label=flower", "format=json", store)
    digests = found.pop("digests")
    assert found == told.json()
    assert found["groups"]
    assert digests == {
        each["path"]: digest_of(Path(each["path"])) for group in found["groups"] for each in group["images"]
    }


def test_runs_and_sweeps(here: Cli, few: Path, tmp_path: Path) -> None:
    here("ingest", few, "extractor=colour")
    here("recommend", few / "china" / "china-0-0.jpg")
    here("-m", "evaluate", few, "metric=cosine,euclidean")
    secret = tmp_path / "outputs" / "2000-01-01" / "secret"
    secret.mkdir(parents=True)
    (secret / "secret.png").write_bytes(b"")
    with serving(tmp_path) as server:
        found = server.get("/api/runs")
        assert [each["stage"] for each in found["runs"]] == ["evaluate", "evaluate", "recommend", "ingest"]
        first, second, recommended, _ = found["runs"]
        assert first["status"] == "done"
        assert first["command"].startswith("imgrec -m evaluate ")
        assert first["again"] == f"imgrec replay outputs/{first['run']}"
        assert 0 <= first["figures"]["mAP"] <= 1
        assert recommended["pictures"] == ["recommendations.png"]
        (sweep,) = found["sweeps"]
        assert first["sweep"] == second["sweep"] == sweep["sweep"]
        assert [row[1] for row in sweep["rows"]] in (["cosine", "euclidean"], ["euclidean", "cosine"])
        for name, picture in ((recommended["run"], "recommendations.png"), (sweep["sweep"], "leaderboard.png")):
            answer = server.ask(f"/api/runs/picture?run={name}&file={picture}")
            assert (answer.status, answer.body[:4]) == (200, b"\x89PNG")
        compared = server.get(f"/api/runs/compare?run={first['run']}&run={second['run']}")
        assert compared["differs"]["configuration.metric"] == ["euclidean", "cosine"]
        for query, status in (
            ("picture?run=2000-01-01/secret&file=secret.png", 404),
            (f"picture?run={recommended['run']}&file=../../../x.png", 404),
            ("picture?run=../outputs/2000-01-01/secret&file=secret.png", 404),
            ("picture?run=..&file=run.json", 404),
            ("picture", 400),
            (f"compare?run={first['run']}", 400),
            (f"compare?run={first['run']}&run=..", 404),
        ):
            assert server.ask(f"/api/runs/{query}").status == status, query


def test_errors_are_for_people(server: Server, photos: Path) -> None:
    q = f"q=d:{digest_of(photos / 'china' / 'china-1-1.jpg')}"
    for query, status, message in (
        ("", 400, "q= is missing"),
        ("q=x", 400, "q is d:DIGEST"),
        ("q=d:00", 404, "no picture '00'"),
        ("q=u:00", 404, "upload it again"),
        (f"{q}&k=0", 400, "recommend.k is at least 1, not 0"),
        (f"{q}&k=1001", 400, "at most 1,000"),
        (f"{q}&k=many", 400, "k takes integer, not 'many'"),
        (f"{q}&kk=1", 400, "did you mean k?"),
        (f"{q}&metric=cosin", 400, "recommend.metric is one of"),
        (f"{q}&space=nothing", 400, "has no space 'nothing'"),
        (f"{q}&weights=colour", 400, "weights takes NAME:NUMBER"),
        (f"{q}&label=no", 400, "no image is left"),
        (f"{q}&map=no", 400, "there is no map 'no'"),
    ):
        answer = server.ask(f"/api/recommend?{query}")
        assert (answer.status, message in answer.json()["error"]) == (status, True), (query, answer.body)
    assert server.ask("/api/nothing").status == 404
    assert server.ask("/api/gallery", "DELETE").status == 405


def test_openapi_describes_the_options(server: Server) -> None:
    document = server.get("/api/openapi.json")
    operation = document["paths"]["/api/recommend"]["get"]
    given = {each["name"]: each for each in operation["parameters"]}
    assert given["k"]["schema"] == {"type": "integer", "minimum": 1, "default": 5}
    assert given["metric"]["schema"]["enum"] == sorted(imgrec.available("metric"))
    assert given["combine"]["schema"] == {"type": "string", "enum": ["mean", "nearest"], "default": "mean"}
    assert all(each["description"] for each in given.values())
    assert "image/*" in document["paths"]["/api/queries"]["post"]["requestBody"]["content"]
    assert all(each["summary"] for path in document["paths"].values() for each in path.values())


def test_a_gallery_that_changes_underneath_is_noticed(here: Cli, few: Path, tmp_path: Path) -> None:
    here("ingest", few / "china", "extractor=colour")
    with serving(tmp_path) as server:
        before = server.get("/api/gallery")
        name = before["maps"][0]
        assert name.endswith("~pca")
        assert server.made(name)["count"] == 6
        here("ingest", few, "extractor=colour")
        after = server.until("/api/gallery", {"images": 12})
        q = digest_of(few / "flower" / "flower-0-0.jpg")
        for _ in range(100):
            found = server.ask(f"/api/recommend?q=d:{q}&k=20&include_self=true")
            if found.headers["Imgrec-Version"] != before["version"]:
                break
        assert len(found.json()["matches"]) == 12
        assert found.headers["Imgrec-Version"] == server.get("/api/gallery")["version"]
        assert after["images"] == 12
        assert (server.get(f"/api/maps/{name}")["is_outdated"], server.get(f"/api/maps/{name}")["count"]) == (
            True,
            6,
        )
        server.ask(f"/api/maps/{name}", "POST")
        assert server.until(f"/api/maps/{name}", {"is_outdated": False, "state": "made"})["count"] == 12


def test_the_readme_s_lines_for_curl(server: Server, photos: Path, tmp_path: Path) -> None:
    """As they stand, but for the port, the token and a label that this gallery has."""
    if shutil.which("curl") is None:
        pytest.skip("needs curl, which is not here")
    (script,) = (block for block in blocks("conf", "sh") if "curl " in block)
    for shown, run in (
        (":8765", f":{server.port}"),
        ("some-words-of-your-own", TOKEN),
        ("label=hat", "label=flower"),
    ):
        assert shown in script
        script = script.replace(shown, run)
    shutil.copy(photos / "china" / "china-0-0.jpg", tmp_path / "a.jpg")
    shutil.copy(photos / "flower" / "flower-0-0.jpg", tmp_path / "img.jpg")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "positions").stat().st_size == 40 * 4
    assert (tmp_path / "selection.csv").read_text().count("\n") == 4
    assert size_of(tmp_path / "thumbnail.webp")[0] == 96
