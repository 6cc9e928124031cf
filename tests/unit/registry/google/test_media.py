"""Bodies of media uploads: read as their writers meant them, however they come in pieces, or refused."""

from collections.abc import AsyncIterator, Sequence
from email.generator import BytesGenerator
from email.mime.multipart import MIMEMultipart
from email.mime.nonmultipart import MIMENonMultipart
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.registry.api.google.media import Multipart
from services.registry.api.google.uploads import Chunk
from services.registry.ranges import Span
from shared.http.errors import InvalidArgument

BOUNDARY = "===============7330845974216740156=="


async def flow(pieces: Sequence[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def cut(content: bytes, size: int) -> list[bytes]:
    return [content[at : at + size] for at in range(0, len(content), size)]


def written(description: bytes, file: bytes, line: bytes, *, boundary: str = BOUNDARY, headers: bytes = b"") -> bytes:
    edge = b"--" + boundary.encode()
    first = line.join([edge, b"Content-Type: application/json", b"", description])
    second = line.join([edge, b"Content-Type: text/plain", *([headers] if headers else []), b"", file])
    return line.join([first, second, edge + b"--", b""])


async def read(content_type: str, pieces: Sequence[bytes]) -> tuple[bytes, bytes]:
    parts = Multipart.of(content_type, flow(pieces))
    description = await parts.description()
    return description, b"".join([piece async for piece in parts.media()])


@given(
    file=st.binary(max_size=300),
    line=st.sampled_from([b"\n", b"\r\n"]),
    quotes=st.sampled_from(["", '"', "'"]),
    size=st.integers(1, 400),
)
async def test_both_parts_come_as_they_were_written_whatever_the_pieces(
    file: bytes, line: bytes, quotes: str, size: int
) -> None:
    body = written(b'{"fileId":""}', file, line)
    found = await read(f"multipart/related; boundary={quotes}{BOUNDARY}{quotes}", cut(body, size))
    assert found == (b'{"fileId":""}', file)


@pytest.mark.parametrize("file", [b"", b"\n", b"\r", b"\r\n", b"--", b"a\r\n--", b"\r\n--===", b"x" * 100_000])
async def test_a_file_may_end_like_the_beginning_of_a_boundary(file: bytes) -> None:
    for line in (b"\n", b"\r\n"):
        body = written(b"{}", file, line)
        assert (await read(f'multipart/related; boundary="{BOUNDARY}"', cut(body, 7)))[1] == file


async def test_what_pythons_own_writer_writes_is_read() -> None:
    message = MIMEMultipart("related")
    for kind, content in (("json", b"{}"), ("octet-stream", bytes(range(256)))):
        part = MIMENonMultipart("application", kind)
        part["Content-Transfer-Encoding"] = "binary"
        part.set_payload(content.decode("ascii", "surrogateescape"))
        message.attach(part)
    buffer = BytesIO()
    BytesGenerator(buffer, mangle_from_=False).flatten(message, unixfrom=False)
    headers, _, body = buffer.getvalue().partition(b"\n\n")
    assert b"multipart/related" in headers
    kind = f'multipart/related; boundary="{message.get_boundary()}"'
    assert (await read(kind, [body]))[0] == b"{}"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no boundary at all",
        written(b"{}", b"file", b"\n")[:-10],
        written(b"{}", b"file", b"\n").replace(b"==--", b"=="),
        written(b"{}", b"file", b"\n") + b"x" * 20_000,
        written(b"{}", b"file", b"\n", headers=b"Content-Transfer-Encoding: base64"),
        f"--{BOUNDARY}\n\n{{}}\n--{BOUNDARY}--\n".encode(),
        f"--{BOUNDARY}\n\n{'x' * 100_000}".encode(),
        written(b"{}", b"file", b"\n", boundary="other"),
    ],
)
async def test_a_body_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidArgument):
        await read(f'multipart/related; boundary="{BOUNDARY}"', cut(body, 1000))


@given(st.text(max_size=40), st.lists(st.binary(max_size=60), max_size=6))
async def test_no_body_is_too_strange(boundary: str, pieces: list[bytes]) -> None:
    try:
        await read(f"multipart/related; boundary={boundary}", pieces)
    except InvalidArgument:
        return


@pytest.mark.parametrize("kind", ["", "application/json", "multipart/form-data; boundary=x", "multipart/related"])
def test_another_type_of_body_is_refused(kind: str) -> None:
    with pytest.raises(InvalidArgument):
        Multipart.of(kind, flow([]))


@pytest.mark.parametrize(
    ("header", "size", "chunk"),
    [
        ("bytes 0-9/20", 10, Chunk(Span(0, 10), 20)),
        ("bytes 10-19/*", 10, Chunk(Span(10, 20), None)),
        ("bytes */20", 0, Chunk(None, 20)),
        ("bytes */*", 0, Chunk(None, None)),
        ("", 5, Chunk(Span(0, 5), 5)),
        ("", None, Chunk(Span(0, 0), 0)),
    ],
)
def test_a_chunk_says_where_it_belongs(header: str, size: int | None, chunk: Chunk) -> None:
    assert Chunk.of(header, size) == chunk


@given(st.text(max_size=30) | st.from_regex(r"bytes \d{1,4}-\d{1,4}/\d{1,4}", fullmatch=True))
def test_no_place_of_a_chunk_is_too_strange(header: str) -> None:
    try:
        chunk = Chunk.of(header, 1)
    except InvalidArgument:
        return
    assert chunk.span is None or chunk.span.size >= 1
