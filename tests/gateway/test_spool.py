"""Uploads on disk: only complete ones, only correct ones, and not for ever."""

import asyncio
import errno
import os
from hashlib import sha256

import pytest

from routing.gateway.disk import PIECE
from routing.gateway.spool import (
    UNFINISHED,
    BlobTooLarge,
    DigestMismatch,
    Spool,
    SpoolFailed,
    SpoolFull,
    digest_of,
    refusing,
)

HOUR, DAY = 3600.0, 86_400.0
CONTENT = b"weights" * 100


def digest_for(data):
    return f"sha256:{sha256(data).hexdigest()}"


async def pieces_of(data, size=100):
    for start in range(0, len(data), size):
        yield data[start : start + size]


class Wall:
    """A clock that stands still until it is moved."""

    def __init__(self):
        self.now = 1_700_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def wall():
    return Wall()


@pytest.fixture
def spool(tmp_path, wall):
    return Spool(tmp_path / "spool", 4 * PIECE, PIECE, DAY, wall)


async def stored(spool, data):
    await spool.store(digest_for(data), pieces_of(data, PIECE))
    return digest_for(data)


async def read(spool, digest):
    return [piece async for piece in spool.pieces(digest)]


def left_over(spool, age, wall):
    """An unfinished file of a writer that is no more."""
    path = spool.folder / f"{UNFINISHED}x"
    path.write_bytes(b"half")
    os.utime(path, (wall.now - age, wall.now - age))
    return path


@pytest.mark.parametrize(
    ("text", "digest"),
    [
        ("sha256:" + "a" * 64, "sha256:" + "a" * 64),
        ("sha256-" + "A" * 64, "sha256:" + "a" * 64),
        ("sha256:" + "a" * 64 + "\n", None),
        ("sha256:" + "a" * 63, None),
        ("sha256:../" + "a" * 61, None),
        ("", None),
    ],
)
def test_a_digest_has_one_proper_form(text, digest):
    """Both spellings are read, nothing else is."""
    assert digest_of(text) == digest


async def test_what_is_stored_comes_back(spool):
    """Size and bytes are those of the upload."""
    digest = digest_for(CONTENT)
    assert spool.has(digest) is None
    assert await spool.store(digest, pieces_of(CONTENT), len(CONTENT)) == len(CONTENT)
    assert spool.has(digest) == len(CONTENT)
    assert b"".join(await read(spool, digest)) == CONTENT


async def test_a_file_is_for_its_owner_only(spool):
    """Nobody else on the machine can read uploads."""
    digest = await stored(spool, CONTENT)
    path = spool.folder / digest.replace(":", "-")
    assert (spool.folder.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o700, 0o600)


async def test_a_file_is_read_in_large_pieces(spool):
    """A file of any size passes through 1 MiB of memory."""
    digest = await stored(spool, bytes(2 * PIECE + 5))
    assert [len(piece) for piece in await read(spool, digest)] == [PIECE, PIECE, 5]


async def test_an_empty_file_is_a_file(spool):
    """No bytes have a hash too."""
    digest = await stored(spool, b"")
    assert (spool.has(digest), await read(spool, digest)) == (0, [])


async def test_a_wrong_hash_is_refused(spool):
    """In Ollama's own words, and nothing is kept."""
    expected, got = digest_for(b"other"), digest_for(CONTENT)
    with pytest.raises(DigestMismatch) as refused:
        await spool.store(expected, pieces_of(CONTENT))
    assert (refused.value.status, refused.value.message) == (
        400,
        f'digest mismatch, expected "{expected}", got "{got}"',
    )
    assert list(spool.folder.iterdir()) == []


@pytest.mark.parametrize("declared", [4 * PIECE + 1, None])
async def test_a_file_above_the_limit_is_refused(spool, declared):
    """Announced or not, no more than the limit is taken, and the setting is named."""
    data = bytes(4 * PIECE + 1)
    with pytest.raises(BlobTooLarge, match="SOLLOL_MAX_BLOB_GB") as refused:
        await spool.store(digest_for(data), pieces_of(data, PIECE), declared)
    assert refused.value.status == 413
    assert not spool.folder.exists() or list(spool.folder.iterdir()) == []


async def test_a_full_disk_is_known_before_the_upload(tmp_path):
    """What no disk has room for is refused before its bytes are sent."""
    spool = Spool(tmp_path, 1 << 60, PIECE, DAY)
    with pytest.raises(SpoolFull, match="SOLLOL_SPOOL_GB") as refused:
        await spool.store(digest_for(CONTENT), pieces_of(CONTENT), 1 << 60)
    assert refused.value.status == 507
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "refusal"), [(errno.ENOSPC, SpoolFull), (errno.EDQUOT, SpoolFull), (errno.EROFS, SpoolFailed)]
)
def test_what_the_disk_refuses_is_said_in_our_words(tmp_path, number, refusal):
    """The answer says where it failed."""
    with pytest.raises(refusal, match=str(tmp_path)), refusing(tmp_path):
        raise OSError(number, os.strerror(number))


async def test_a_folder_that_cannot_be_made_is_a_refusal(tmp_path):
    """A file stands where the folder should be."""
    (tmp_path / "spool").write_bytes(b"")
    with pytest.raises(SpoolFailed, match="File exists"):
        await stored(Spool(tmp_path / "spool", PIECE, PIECE, DAY), CONTENT)


async def test_a_broken_upload_leaves_nothing(spool):
    """A client that goes away in the middle leaves no file behind."""

    async def breaking():
        yield CONTENT
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await spool.store(digest_for(CONTENT), breaking())
    assert list(spool.folder.iterdir()) == []


async def test_a_cancelled_upload_leaves_nothing(spool):
    """Cancelled while it waits for bytes, its file is gone when the cancellation arrives."""
    waits = asyncio.Event()

    async def waiting():
        yield bytes(PIECE)
        waits.set()
        await asyncio.Event().wait()

    task = asyncio.ensure_future(spool.store(digest_for(CONTENT), waiting()))
    await waits.wait()
    assert len(list(spool.folder.iterdir())) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(spool.folder.iterdir()) == []


@pytest.mark.parametrize("turns", range(8))
async def test_cancelled_at_any_turn_nothing_is_left(spool, turns):
    """Also while a thread makes, writes or moves the file."""
    task = asyncio.ensure_future(spool.store(digest_for(bytes(PIECE)), pieces_of(bytes(PIECE), PIECE)))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    names = [path.name for path in spool.folder.iterdir()] if spool.folder.exists() else []
    assert not any(name.startswith(UNFINISHED) for name in names)


async def test_equal_uploads_do_not_disturb_each_other(spool):
    """Two clients send the same file at once, and both succeed."""
    digest = digest_for(CONTENT)
    sizes = await asyncio.gather(*(spool.store(digest, pieces_of(CONTENT, 50)) for _ in range(3)))
    assert sizes == [len(CONTENT)] * 3
    assert [path.name for path in spool.folder.iterdir()] == [digest.replace(":", "-")]


async def test_a_wrong_upload_does_not_harm_the_right_one(spool):
    """A file that is here stays as it is whatever is sent under its name."""
    digest = await stored(spool, CONTENT)
    with pytest.raises(DigestMismatch):
        await spool.store(digest, pieces_of(b"something else"))
    assert b"".join(await read(spool, digest)) == CONTENT


async def test_what_is_not_here_cannot_be_read(spool):
    """It may have been tidied away since somebody asked."""
    with pytest.raises(FileNotFoundError):
        await read(spool, digest_for(CONTENT))


async def test_unused_files_go_after_their_time(spool, wall):
    """Being asked for is a use."""
    old, used = await stored(spool, b"old"), await stored(spool, b"used")
    wall.now += DAY
    spool.has(used)
    wall.now += 1
    await spool.tidy()
    assert (spool.has(old), spool.has(used)) == (None, 4)


async def test_above_the_size_the_least_recently_used_go(spool, wall):
    """No more go than must."""
    digests = []
    for letter in (b"a", b"b", b"c"):
        digests.append(await stored(spool, letter * (PIECE // 2)))
        wall.now += 60
    wall.now += HOUR
    spool.has(digests[0])
    await spool.tidy()
    assert [spool.has(digest) is not None for digest in digests] == [True, False, True]


async def test_what_was_used_just_now_stays_above_the_size(spool):
    """The files of a create come one after the other, and all must be there when it follows."""
    digest = await stored(spool, bytes(2 * PIECE))
    await spool.tidy()
    assert spool.has(digest) == 2 * PIECE


async def test_what_is_read_now_stays(spool, wall):
    """A file on its way to a slow node is not taken from under it."""
    digest = await stored(spool, bytes(2 * PIECE))
    reader = spool.pieces(digest)
    await anext(reader)
    wall.now += 2 * DAY
    await spool.tidy()
    assert (spool.folder / digest.replace(":", "-")).exists()
    await reader.aclose()
    await spool.tidy()
    assert spool.has(digest) is None


async def test_what_is_written_now_stays(spool, wall):
    """A slow upload is not mistaken for a broken one."""

    async def tidied():
        yield CONTENT
        wall.now = 4e9
        await spool.tidy()
        yield CONTENT

    assert await spool.store(digest_for(CONTENT * 2), tidied()) == 2 * len(CONTENT)


async def test_leftovers_of_dead_writers_go(spool, wall):
    """A minute after its last byte, a file that nobody holds is a leftover."""
    spool.folder.mkdir()
    path = left_over(spool, 59, wall)
    await spool.tidy()
    assert path.exists()
    wall.now += 2
    await spool.tidy()
    assert not path.exists()


async def test_other_files_are_left_alone(spool, wall):
    """Only what a spool has made is tidied."""
    spool.folder.mkdir()
    path = spool.folder / "readme"
    path.write_bytes(b"mine")
    os.utime(path, (0, 0))
    await spool.tidy()
    assert path.exists()


async def test_a_spool_never_used_is_tidy(spool):
    """The folder need not be there."""
    await spool.tidy()
    assert not spool.folder.exists()


async def test_an_untidy_digest_makes_no_path(spool):
    """Names from outside do not lead out of the folder."""
    with pytest.raises(ValueError, match="digest"):
        spool.has("sha256:../../etc/passwd")
