"""Forms with files: their fields are found as they pass, and their bytes can be sent again."""

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.gateway.disk import PIECE
from routing.gateway.multipart import LARGEST_FIELD, LARGEST_FORM, FormFields
from routing.gateway.spool import SpoolFailed
from routing.gateway.upload import Upload

TYPE = b'multipart/form-data; boundary="edge"'


def part(name, value, more=""):
    return f'--edge\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + value + b"\r\n"


def file_part(value=b"RIFF"):
    return part("file", value, '; filename="speech.wav"\r\nContent-Type: audio/wav')


def form(*parts):
    return b"".join(parts) + b"--edge--\r\n"


def pieces_of(data, cuts):
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def read(*pieces):
    fields = FormFields.of(TYPE)
    for piece in pieces:
        fields.feed(piece)
    fields.finish()
    return fields


NAMES = st.sampled_from(["model", "language", "prompt", "response_format"])
TEXTS = st.text(max_size=12).filter(lambda text: "edge" not in text)
FILES = st.binary(max_size=200).filter(lambda data: b"edge" not in data) | st.just(b"\r\n--edg\r\n--\r\n")


@given(st.lists(st.tuples(NAMES, TEXTS), max_size=4), FILES, st.integers(0, 4), st.lists(st.integers(0, 5000)))
def test_a_form_cut_anywhere_has_the_same_fields(values, content, place, cuts):
    """However the network cuts it, wherever the file stands, whatever is in it: of equal names the first counts."""
    parts = [part(name, text.encode()) for name, text in values]
    parts.insert(place, file_part(content))
    fields = read(*pieces_of(form(*parts), cuts))
    assert fields.fields == dict(reversed(values))
    assert not fields.broken


@given(st.binary(max_size=300) | st.lists(st.sampled_from([b"--edge", b"--", b"\r\n", b":", b"x"])).map(b"".join))
def test_no_body_is_malformed_enough_to_raise(junk):
    """What is no form is the node's to refuse; pieces after the break are not looked at."""
    fields = read(part("model", b"whisper"), junk, form(part("late", b"x")))
    assert fields.fields.get("model") in {"whisper", None} or fields.fields["model"].startswith("whisper")


def test_the_model_is_found_behind_a_big_file():
    """Nothing of the file is kept on the way to the field."""
    fields = FormFields.of(TYPE)
    fields.feed(file_part()[:-2])
    for _ in range(64):
        fields.feed(bytes(1 << 16))
        assert len(fields._text) == 0
    fields.feed(b"\r\n" + form(part("model", b"whisper")))
    fields.finish()
    assert (fields.fields, fields.broken) == ({"model": "whisper"}, False)


def test_a_field_after_a_file_with_no_name_is_a_field():
    """A part with an empty file name is a field, as Go reads it."""
    assert read(form(part("model", b"whisper", '; filename=""'))).fields == {"model": "whisper"}


@pytest.mark.parametrize(("size", "kept"), [(LARGEST_FIELD, True), (LARGEST_FIELD + 1, False)])
def test_a_long_field_is_passed_over(size, kept):
    """Up to 64 KiB are kept, and what follows is read all the same."""
    fields = read(form(part("prompt", b"x" * size), part("model", b"whisper"))).fields
    assert (("prompt" in fields), fields["model"]) == (kept, "whisper")


def test_many_fields_do_not_fill_the_memory():
    """All fields together have an end too."""
    fields = read(form(*(part(f"f{i}", b"x" * LARGEST_FIELD) for i in range(40)))).fields
    assert sum(map(len, fields.values())) == LARGEST_FORM


def test_names_of_headers_match_in_any_case():
    """Some clients write them small."""
    body = form(part("model", b"whisper")).replace(b"Content-Disposition", b"content-disposition")
    assert read(body).fields == {"model": "whisper"}


def test_broken_utf8_is_replaced():
    """As in JSON bodies."""
    assert read(form(part("model", b"whis\xffper"))).fields == {"model": "whis\ufffdper"}


@pytest.mark.parametrize("body", [b"", b"{}", form(part("model", b"x"))[:-6], b"--edge\r\nno header\r\n\r\n"])
def test_a_body_that_is_no_whole_form_is_broken(body):
    """Ended early or never one."""
    assert read(body).broken


def test_what_follows_the_last_boundary_is_ignored():
    """An epilogue is allowed."""
    assert read(form(part("model", b"whisper")), b"anything").fields == {"model": "whisper"}


@pytest.mark.parametrize(
    "content_type",
    [
        b"",
        b"application/json",
        b"multipart/mixed; boundary=edge",
        b"multipart/form-data",
        b"multipart/form-data; boundary=",
        b"multipart/form-data; boundary=" + b"x" * 1000,
        b"\xff;\xfe",
    ],
)
def test_other_types_are_no_forms(content_type):
    """None, for the caller to pass the body on unread."""
    assert FormFields.of(content_type) is None


def test_the_type_is_read_in_any_case():
    """Media types have none."""
    assert FormFields.of(b"Multipart/Form-Data ; Boundary=edge") is not None


async def content(upload):
    return b"".join([piece async for piece in upload.pieces()])


@pytest.mark.parametrize("size", [0, 5, PIECE, PIECE + 1, 3 * PIECE + 7])
async def test_an_upload_is_read_again_and_again(tmp_path, size):
    """Each reader gets all bytes from the start, in memory or on disk."""
    upload, data = Upload(tmp_path / "spool"), bytes(range(256)) * (size // 256 + 1)
    for piece in pieces_of(data[:size], range(0, size, 100_000)):
        await upload.write(piece)
    assert upload.size == size
    assert await content(upload) == await content(upload) == data[:size]
    await upload.aclose()


async def test_a_small_upload_touches_no_disk(tmp_path):
    """Up to 1 MiB stays in memory."""
    upload = Upload(tmp_path / "spool")
    await upload.write(bytes(PIECE))
    assert not (tmp_path / "spool").exists()


async def test_a_large_upload_has_no_name(tmp_path):
    """Nothing is left on the disk, however the process ends."""
    upload = Upload(tmp_path)
    await upload.write(bytes(2 * PIECE))
    assert (list(tmp_path.iterdir()), len(upload._pieces)) == ([], 0)
    await upload.aclose()


async def test_readers_do_not_disturb_each_other(tmp_path):
    """Each has its own place in the file."""
    upload = Upload(tmp_path)
    await upload.write(bytes(3 * PIECE))
    await upload.write(b"end")
    found = await asyncio.gather(content(upload), content(upload))
    assert found == [bytes(3 * PIECE) + b"end"] * 2
    await upload.aclose()


async def test_a_closed_upload_gives_nothing_of_another_file(tmp_path):
    """A reader left behind fails; it does not read what took the file's place."""
    upload = Upload(tmp_path)
    await upload.write(bytes(2 * PIECE))
    reader = upload.pieces()
    await anext(reader)
    await upload.aclose()
    await upload.aclose()
    with pytest.raises(ValueError, match="closed"):
        await anext(reader)


async def test_an_upload_that_the_disk_refuses_is_a_refusal(tmp_path):
    """The answer says where it failed."""
    (tmp_path / "spool").write_bytes(b"")
    with pytest.raises(SpoolFailed, match="spool"):
        await Upload(tmp_path / "spool").write(bytes(PIECE + 1))
