"""Files of a folder over HTTP: the file that a path names, and the answer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import trio

from actors import InvalidOption
from channels import Endpoint
from channels.http.static import StaticFiles, check_folders, find_file, type_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with files to serve, hidden files, and links to files outside the folder."""
    page = tmp_path / "page"
    (page / "deep").mkdir(parents=True)
    (page / "empty").mkdir()
    (page / "index.html").write_text("<h1>start</h1>")
    (page / "deep" / "index.html").write_text("deep")
    (page / "app.js").write_text("let x = 1")
    (page / "žluť kůň.txt").write_text("neigh")
    (page / ".env").write_text("SECRET=1")
    (page / ".well-known" / "acme-challenge").mkdir(parents=True)
    (page / ".well-known" / "acme-challenge" / "token").write_text("proof")
    (page / ".well-known" / ".env").write_text("SECRET=1")
    (page / "deep" / ".well-known").mkdir()
    (page / "deep" / ".well-known" / "security.txt").write_text("not at the top")
    (page / ".git").mkdir()
    (page / ".git" / "config").write_text("secret")
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "page-two").mkdir()
    (tmp_path / "page-two" / "secret.txt").write_text("secret")
    (page / "out.txt").symlink_to(tmp_path / "secret.txt")
    (page / "outside").symlink_to(tmp_path / "page-two")
    (page / "inside.js").symlink_to(page / "app.js")
    (page / "config.txt").symlink_to(page / ".env")
    (page / "repository").symlink_to(page / ".git")
    (page / "proof.txt").symlink_to(page / ".well-known" / "acme-challenge" / "token")
    (page / ".well-known" / "start.html").symlink_to(page / "index.html")
    (page / ".well-known" / "config.txt").symlink_to(page / ".well-known" / ".env")
    (page / "chain").symlink_to(page / "config.txt")
    os.mkfifo(page / "pipe")
    return page


class Answer:
    """The messages that an application has sent."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""

    async def send(self, message: Any) -> None:
        await trio.lowlevel.checkpoint()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.body += message["body"]


async def never() -> Any:
    await trio.sleep_forever()


async def ask(
    app: Any, path: str, method: str = "GET", query: str = "", root: str = "", **headers: str
) -> Answer:
    answer = Answer()
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": f"{path}?{query}".encode(),
        "root_path": root,
        "query_string": query.encode(),
        "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()],
    }
    await app(scope, never, answer.send)
    return answer


async def teapot(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": scope["method"].encode()})


# The file that a path names


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt",
        "deep/../../secret.txt",
        "%2e%2e/secret.txt",
        "..%2fsecret.txt",
        "deep%2findex.html",
        "..\\secret.txt",
        "%5csecret.txt",
        "../page-two/secret.txt",
        "/etc/passwd",
        "//etc/passwd",
        "%2fetc/passwd",
        "out.txt",
        "outside/secret.txt",
        "outside/",
        ".env",
        ".git/config",
        "%2eenv",
        "./app.js",
        "deep//index.html",
        "app.js/",
        "app.js%00.html",
        "%ff.txt",
        "empty",
        "empty/",
        "pipe",
        "nothing.js",
        "a" * 5000,
    ],
)
def test_a_path_that_leaves_the_folder_or_is_hidden_names_no_file(folder: Path, path: str) -> None:
    assert find_file(folder, path) is None
    assert find_file(folder, path, is_top=True) is None


@pytest.mark.parametrize(
    "path",
    [
        "config.txt",
        "chain",
        "repository/config",
        "proof.txt",
        ".well-known/config.txt",
    ],
)
def test_a_link_to_a_hidden_file_names_no_file(folder: Path, path: str) -> None:
    assert find_file(folder, path, is_top=True) is None


def test_files_of_a_kubernetes_config_map_are_served(folder: Path, tmp_path: Path) -> None:
    (folder / "..2026_01_31.7").mkdir()
    (folder / "..2026_01_31.7" / ".git").mkdir()
    for name in ("page.html", ".env", ".git/config"):
        (folder / "..2026_01_31.7" / name).write_text("mounted")
    (folder / "..data").symlink_to("..2026_01_31.7")
    (folder / "page.html").symlink_to("..data/page.html")
    found = find_file(folder, "page.html", is_top=True)
    assert found is not None
    assert not isinstance(found, str)
    with found.file:
        assert found.file.read() == b"mounted"
    (folder / "secret").symlink_to("..data/.env")
    (folder / "config").symlink_to("..data/.git/config")
    (tmp_path / "..outside").write_text("secret")
    (folder / "beside").symlink_to("../..outside")
    for path in ("..data/page.html", "..2026_01_31.7/page.html", "secret", "config", "beside"):
        assert find_file(folder, path, is_top=True) is None


def test_a_link_in_the_well_known_folder_may_lead_to_a_file_of_the_page(folder: Path) -> None:
    found = find_file(folder, ".well-known/start.html", is_top=True)
    assert found is not None
    assert not isinstance(found, str)
    found.file.close()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/.well-known/acme-challenge/token", 200),
        ("/%2ewell-known/acme-challenge/token", 200),
        ("/.well-known/.env", 404),
        ("/.well-known/../.env", 404),
        ("/.well-known/.well-known/token", 404),
        ("/deep/.well-known/security.txt", 404),
        ("/assets/.well-known/acme-challenge/token", 404),
    ],
)
async def test_the_only_dotted_folder_is_well_known_at_the_top(
    folder: Path, path: str, status: int
) -> None:
    answer = await ask(StaticFiles({"/": folder, "/assets": folder}), path)
    assert answer.status == status


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("", "<h1>start</h1>"),
        ("index.html", "<h1>start</h1>"),
        ("deep/", "deep"),
        ("app.js", "let x = 1"),
        ("inside.js", "let x = 1"),
        ("%C5%BElu%C5%A5%20k%C5%AF%C5%88.txt", "neigh"),
    ],
)
def test_a_path_names_a_file_in_the_folder(folder: Path, path: str, text: str) -> None:
    found = find_file(folder, path)
    assert found is not None
    assert not isinstance(found, str)
    with found.file as file:
        assert file.read().decode() == text
    assert found.size == len(text.encode())


def test_the_folder_itself_may_be_a_symbolic_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    found = find_file(tmp_path / "link", "app.js")
    assert found is not None
    assert not isinstance(found, str)
    found.file.close()


def test_content_types_do_not_depend_on_the_machine() -> None:
    assert type_of("a.mjs") == type_of("B.JS") == "text/javascript; charset=utf-8"
    assert type_of("a.wasm") == "application/wasm"
    assert type_of("Makefile") == type_of("a.exe") == "application/octet-stream"


# The answer


async def test_a_file_has_its_type_its_length_and_its_validators(folder: Path) -> None:
    os.utime(folder / "app.js", ns=(0, 1_000_000_000_500_000_000))
    answer = await ask(StaticFiles(folder), "/app.js")
    assert (answer.status, answer.body) == (200, b"let x = 1")
    assert answer.headers == {
        "etag": '"de0b6b3c7a70d00-9"'.replace("de0b6b3c7a70d00", f"{1_000_000_000_500_000_000:x}"),
        "last-modified": "Sun, 09 Sep 2001 01:46:40 GMT",
        "cache-control": "no-cache",
        "x-content-type-options": "nosniff",
        "content-type": "text/javascript; charset=utf-8",
        "content-length": "9",
    }


async def test_head_has_the_headers_of_get_and_no_body(folder: Path) -> None:
    app = StaticFiles(folder)
    head, get = await ask(app, "/", "HEAD"), await ask(app, "/")
    assert (head.status, head.headers, head.body) == (200, get.headers, b"")


async def test_a_fresh_copy_gets_304_and_a_changed_file_is_sent_again(folder: Path) -> None:
    app = StaticFiles(folder)
    first = await ask(app, "/app.js")
    tag, since = first.headers["etag"], first.headers["last-modified"]
    for headers in (
        {"if_none_match": tag},
        {"if_none_match": f'"other", W/{tag}'},
        {"if_none_match": "*"},
        {"if_modified_since": since},
    ):
        again = await ask(app, "/app.js", **headers)
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
        assert "content-length" not in again.headers
    for headers in (
        {"if_none_match": '"other"'},
        {"if_none_match": '"other"', "if_modified_since": since},
        {"if_modified_since": "Sun, 09 Sep 2001 01:46:40 GMT"},
        {"if_modified_since": "yesterday"},
        {"if_modified_since": "Sun, 09 Sep 99999999 01:46:40 GMT"},
    ):
        assert (await ask(app, "/app.js", **headers)).status == 200
    (folder / "app.js").write_text("let x = 12")
    assert (await ask(app, "/app.js", if_none_match=tag)).body == b"let x = 12"


async def test_a_large_file_is_sent_in_chunks_and_an_empty_one_at_once(folder: Path) -> None:
    data = os.urandom(700_001)
    (folder / "large.bin").write_bytes(data)
    (folder / "none.txt").write_bytes(b"")
    app = StaticFiles(folder, max_threads=1)
    assert (await ask(app, "/large.bin")).body == data
    answer = await ask(app, "/none.txt")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")


async def test_the_rest_of_a_file_is_not_read_after_its_client_has_gone(folder: Path) -> None:
    (folder / "large.bin").write_bytes(bytes(700_001))
    chunks = []

    async def gone() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        chunks.append(message)
        await trio.lowlevel.checkpoint()

    scope = {"type": "http", "method": "GET", "path": "/large.bin", "headers": []}
    await StaticFiles(folder)(scope, gone, send)
    assert len(chunks) < 3


async def test_a_folder_without_its_slash_is_redirected_below_any_prefix(folder: Path) -> None:
    app = StaticFiles({"/": folder, "/assets": folder})
    answer = await ask(app, "/deep", query="a=1")
    assert (answer.status, answer.headers["location"]) == (307, "./deep/?a=1")
    assert (await ask(app, "/assets")).headers["location"] == "./assets/"


@pytest.mark.parametrize("path", ["/my files", "/my%20files", "/my files/"])
async def test_a_path_may_be_written_with_or_without_its_encoding(folder: Path, path: str) -> None:
    app = StaticFiles({path: folder})
    assert (await ask(app, "/my%20files/app.js")).body == b"let x = 1"
    assert (await ask(app, "/my%20files")).headers["location"] == "./my%20files/"


def test_a_path_that_occurs_twice_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidOption) as refused:
        check_folders({"/assets": folder, "/assets/": folder})
    assert refused.value.option == "static"


async def test_the_redirect_keeps_a_percent_sign_in_the_name_of_a_folder(folder: Path) -> None:
    (folder / "100%25").mkdir()
    (folder / "100%25" / "index.html").write_text("all")
    app = StaticFiles({"/": folder})
    answer = await ask(app, "/100%2525")
    assert (answer.status, answer.headers["location"]) == (307, "./100%2525/")
    assert (await ask(app, "/100%2525/")).body == b"all"
    assert (await ask(app, "/live/deep/", root="/live")).body == b"deep"


async def test_the_longest_path_decides_and_a_missing_file_falls_through(
    folder: Path, tmp_path: Path
) -> None:
    app = StaticFiles({"/": folder, "/deep": tmp_path / "page-two"})
    assert (await ask(app, "/deep/secret.txt")).body == b"secret"
    assert (await ask(app, "/deep/index.html")).body == b"deep"
    assert (await ask(app, "/deeper")).status == 404


async def test_without_an_application_other_methods_get_405_and_other_paths_404(
    folder: Path,
) -> None:
    app = StaticFiles(folder)
    answer = await ask(app, "/app.js", "POST")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    assert (await ask(app, "/nothing")).status == 404


async def test_an_application_gets_other_methods_and_other_paths(folder: Path) -> None:
    app = StaticFiles(folder, teapot)
    assert (await ask(app, "/app.js")).status == 200
    assert (await ask(app, "/app.js", "POST")).body == b"POST"
    assert (await ask(app, "/nothing")).status == 418


# The option of an endpoint


def test_a_folder_that_does_not_exist_is_an_error(folder: Path) -> None:
    for wrong in (folder / "no", {"/": folder, "/a": folder / "no"}, {"a": folder}, 7, {"/": 7}):
        with pytest.raises(InvalidOption) as refused:
            Endpoint(sockets={}, static=wrong).check()  # type: ignore[arg-type]
        assert refused.value.option == "static"
    Endpoint(sockets={}, static=str(folder)).check()


def test_a_missing_npm_package_has_the_command_that_installs_it(folder: Path) -> None:
    with pytest.raises(InvalidOption) as caught:
        check_folders({"/phoenix": folder / "node_modules" / "phoenix"})
    assert f"`npm install --prefix {folder}`" in str(caught.value)


async def test_an_endpoint_serves_its_folder_beside_its_application(folder: Path) -> None:
    endpoint = Endpoint(sockets={}, static=folder, http=teapot)
    async with endpoint.running():
        assert (await ask(endpoint, "/")).body == b"<h1>start</h1>"
        assert (await ask(endpoint, "/other")).status == 418
