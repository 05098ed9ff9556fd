"""The dashboard's files as they are answered: types, policy, forms, and what is none of them."""

import gzip
import re
from importlib.resources import files

import pytest

from frontdesk.gateway.dashboard_files import dashboard_files
from gateway.requirements import covers

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types lit-html"
)
FILES = dashboard_files()
PATHS = ["/", *(f"/dashboard/{name}" for name in sorted(FILES) if name != "index.html")]


@pytest.fixture
def anybody(gateway):
    """A client without a key that says itself what it takes."""
    with gateway.client(None) as client:
        client.headers["Accept-Encoding"] = "identity"
        yield client


@covers("dashboard.page")
@pytest.mark.parametrize("path", PATHS)
def test_each_file_is_answered_with_its_type_and_the_policy(anybody, path):
    answer = anybody.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-cache"
    assert (
        answer.content == FILES[path.removeprefix("/dashboard/").strip("/") or "index.html"].content
    )
    kind = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
    assert answer.headers["content-type"].startswith(kind.get(path.rpartition(".")[2], "text/html"))


@covers("dashboard.files")
@pytest.mark.parametrize("path", PATHS)
def test_what_a_client_has_already_is_not_sent_again(anybody, path):
    etag = anybody.get(path).headers["etag"]
    plain = etag.removeprefix("W/")
    for shown in (etag, plain, f'"other", {etag}', "*"):
        answer = anybody.get(path, headers={"If-None-Match": shown})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == etag
    assert anybody.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


@covers("dashboard.files")
@pytest.mark.parametrize(
    ("accepted", "compressed"),
    [
        ("gzip, br", True),
        ("br;q=1, gzip;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.0, br", False),
        ("identity", False),
        ("", False),
    ],
)
def test_a_file_is_compressed_for_who_takes_that(gateway, accepted, compressed):
    with gateway.client(None) as client:
        headers = {"Accept-Encoding": accepted}
        with client.stream("GET", "/dashboard/app.js", headers=headers) as answer:
            content = b"".join(answer.iter_raw())
    assert answer.headers["vary"] == "Accept-Encoding"
    assert (answer.headers.get("content-encoding") == "gzip") is compressed
    assert (gzip.decompress(content) if compressed else content) == FILES["app.js"].content


def test_head_says_what_get_would_without_the_file(anybody):
    for path in ("/", "/dashboard/style.css"):
        head, get = anybody.head(path), anybody.get(path)
        assert (head.status_code, head.content) == (200, b"")
        for name in ("content-length", "etag", "content-type", "content-security-policy"):
            assert head.headers[name] == get.headers[name]


@pytest.mark.parametrize(
    "path",
    [
        "/dashboard", "/dashboard/", "/dashboard//", "/dashboard/none.js", "/dashboard/index.html",
        "/dashboard/__init__.py", "/dashboard/lit-html", "/dashboard/lit-html/",
        "/dashboard/lit-html/LICENSE", "/dashboard/../app.py", "/dashboard/%2e%2e/app.py",
        "/dashboard/..%2f..%2fpyproject.toml", "/dashboard/%2fetc/passwd", "/dashboard//etc/passwd",
        "/dashboard/app.js%00", "/dashboard/app.js/", "/dashboard/./app.js", "/dashboard/APP.JS",
        "/dashboard/lit-html\\lit-html.js", "/dashboard/app.js%0a", "//", "/index.html",
    ],
)  # fmt: skip
def test_whatever_is_no_file_of_it_is_not_there(gateway, path):
    with gateway.connect() as connection:
        request = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 404 "), answer[:200]
    assert b'"not_found"' in answer


def test_no_file_takes_a_query_and_no_other_verb(anybody):
    assert anybody.get("/?key=x").status_code == 400
    assert anybody.get("/dashboard/app.js?v=1").status_code == 400
    answer = anybody.post("/")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


@covers("dashboard.files")
def test_the_files_are_within_their_budget():
    assert sum(len(each.content) for each in FILES.values()) <= 100 * 1024
    assert sum(len(each.compressed) for each in FILES.values()) <= 35 * 1024


def test_comments_of_scripts_stay_at_home_and_the_lines_keep_their_numbers():
    for name, served in FILES.items():
        source = (files("frontdesk.dashboard") / name).read_bytes()
        if name.startswith("lit-html/") or not name.endswith((".js", ".css")):
            assert served.content == source
            continue
        assert source.startswith((b"//", b"/*"))
        assert not re.search(rb"(?m)^ *(//|/[*])|^ +[*]", served.content)
        lines, kept = source.split(b"\n"), served.content.split(b"\n")
        assert len(lines) == len(kept)
        for line, left in zip(lines, kept, strict=True):
            assert left in (line.lstrip(b" "), b"")
            comment = re.match(rb" *(//|/[*])| +[*]", line)
            assert left or not line.strip() or comment, (name, line)
    # A rule of styles, and no comment.
    assert b"\n* { box-sizing: border-box }\n" in FILES["style.css"].content
