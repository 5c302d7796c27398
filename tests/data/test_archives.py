"""Archives that are read without extracting; malicious archives and damaged ones are refused."""

import gzip
import io
import os
import struct
import subprocess
import tarfile
import tracemalloc
import zipfile

import pytest

from ntkcl.data.sources.common import archives
from ntkcl.data.sources.common.archives import contents, members
from ntkcl.errors import UserError
from tests.helpers.miniatures import tar, zipped

FILES = [("b/two.jpg", b"22"), ("a/one.jpg", b"1"), ("a/empty", b""), ("b/Two.jpg", b"other")]
GNU_TAR = b"GNU tar" in subprocess.run(["tar", "--version"], capture_output=True).stdout
needs_gnu_tar = pytest.mark.skipif(not GNU_TAR, reason="the system's tar is not GNU tar")
KINDS = {"zip": zipped, "tar": tar, "tar.gz": lambda files: tar(files, "gz")}


def written(folder, content, kind="zip"):
    """The archive as a file, whose name says nothing."""
    path = folder / f"archive.{kind}"
    path.write_bytes(content)
    return path


def refusal(path, reason="is refused"):
    """The message, which is one line and names the archive, of the error on listing and on reading."""
    for read in (lambda: list(members(path)), lambda: list(contents(path, {"b/two.jpg"}))):
        with pytest.raises(UserError, match=reason) as error:
            read()
        message = str(error.value)
        assert "\n" not in message
        assert str(path) in message
    return message


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_listed_and_read_in_order_without_writing_anything(tmp_path, kind):
    path = written(tmp_path, KINDS[kind](FILES), kind)
    assert list(members(path)) == [(name, len(content)) for name, content in FILES]
    assert list(contents(path, {"a/one.jpg", "b/two.jpg", "absent"})) == FILES[:2]
    assert list(tmp_path.iterdir()) == [path]


def test_a_tar_of_several_gzip_parts_is_read_to_its_end(tmp_path):
    content = tar(FILES)
    parts = gzip.compress(content[:700]) + gzip.compress(content[700:])
    assert len(list(members(written(tmp_path, parts, "tgz")))) == len(FILES)


def test_a_leading_dot_is_no_part_of_the_name(tmp_path):
    path = written(tmp_path, tar([("./a/one.jpg", b"1")]), "tar")
    assert list(contents(path, {"a/one.jpg"})) == [("a/one.jpg", b"1")]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["../evil.jpg", "a/../../evil.jpg", "/etc/evil.jpg", "C:/evil.jpg", "..\\evil.jpg"])
def test_names_that_lead_outside_are_refused(tmp_path, kind, name):
    assert "points outside the archive" in refusal(written(tmp_path, KINDS[kind]([*FILES, (name, b"x")]), kind))


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE], ids=bytes.decode
)
def test_a_tar_with_a_link_or_a_device_is_refused(tmp_path, kind):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, kind_ in (("b/two.jpg", tarfile.REGTYPE), ("b/odd.jpg", kind)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind_, "b/two.jpg"
            archive.addfile(info)
    assert "'b/odd.jpg' is a link or a device" in refusal(written(tmp_path, file.getvalue(), "tar"))


def test_a_zip_with_a_link_is_refused(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        info = zipfile.ZipInfo("b/odd.jpg")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    assert "'b/odd.jpg' is a link or a device" in refusal(written(tmp_path, file.getvalue()))


def test_an_encrypted_zip_is_refused(tmp_path):
    content = bytearray(zipped(FILES[:1]))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    assert "is encrypted" in refusal(written(tmp_path, content))


def test_a_zip_of_an_unknown_compression_is_an_error_that_does_not_blame_the_download(tmp_path):
    content = bytearray(zipped(FILES[:1]))
    for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        struct.pack_into("<H", content, content.index(signature) + offset, 9)
    with pytest.raises(UserError, match="pack its content again"):
        list(contents(written(tmp_path, content), {"b/two.jpg"}))


@pytest.mark.parametrize("kind", KINDS)
def test_an_absurdly_large_member_is_refused_before_it_is_read(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 1000)
    path = written(tmp_path, KINDS[kind]([*FILES[:1], ("bomb.jpg", bytes(1001))]), kind)
    assert "'bomb.jpg' has 1,001 bytes" in refusal(path)


def announced(kind, size):
    """The header of a member of this kind and size, whose content is yet to come."""
    info = tarfile.TarInfo("././@Header")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


HEADERS = [
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
]


@pytest.mark.parametrize("kind", HEADERS, ids=bytes.decode)
@pytest.mark.parametrize("first", [b"", tar([("a.jpg", b"1")])[: 3 * 512]], ids=["first", "second"])
def test_an_absurdly_large_header_is_refused_before_it_is_read(tmp_path, kind, first):
    path = written(tmp_path, first + announced(kind, 2**28), "tar")
    with path.open("ab") as file:
        file.truncate(2**28 + 2**12)  # takes no place on the disk
    tracemalloc.start()
    assert "'././@Header' announces 268,435,456 bytes" in refusal(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**24


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE], ids=bytes.decode)
def test_many_headers_are_refused_as_a_large_one_is(tmp_path, kind):
    text = b"262144 comment=".ljust(2**18 - 1, b"x") + b"\n"
    path = written(tmp_path, gzip.compress((announced(kind, 2**18) + text) * 5 + tar(FILES)), "tar.gz")
    assert "headers have at most 1,048,576 in all" in refusal(path)
    refusal(written(tmp_path, announced(kind, 0) * 2000 + tar(FILES), "tar"), "cut off or damaged")
    refusal(written(tmp_path, announced(kind, -(2**40)) + tar(FILES), "tar"))


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_are_read_in_both_formats(tmp_path, kind):
    names = [f"{number}/{'é' * 200}.jpg" for number in range(3)]
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=kind, pax_headers={"comment": "of all"}) as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))
    assert list(members(written(tmp_path, file.getvalue(), "tar"))) == [(name, 0) for name in names]


@needs_gnu_tar
def test_a_sparse_member_is_refused(tmp_path):
    (tmp_path / "hole.jpg").write_bytes(b"x")
    os.truncate(tmp_path / "hole.jpg", 2**20)
    for kind in ("gnu", "posix --sparse-version=0.0", "posix --sparse-version=0.1", "posix --sparse-version=1.0"):
        subprocess.run(
            ["tar", "-cSf", "archive.tar", *f"--format={kind}".split(), "hole.jpg"], cwd=tmp_path, check=True
        )
        assert "is sparse" in refusal(tmp_path / "archive.tar")


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_much_content_from_a_small_archive_is_refused(tmp_path, kind, monkeypatch):
    path = written(tmp_path, KINDS[kind]([*FILES[:1], *((f"{n}.jpg", bytes(10**6)) for n in range(3))]), kind)
    assert len(list(members(path))) == 4
    monkeypatch.setattr(archives, "ALLOWED_BYTES", 1_500_000)
    assert "'1.jpg' brings the content to more than 1,500,000 bytes" in refusal(path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_an_archive_that_was_cut_off_says_what_to_do(tmp_path, kind, part):
    noise = bytes(range(256)) * 8
    content = KINDS[kind]([*FILES[:1], *((f"{n}.jpg", noise) for n in range(9))])
    end = content.rstrip(b"\0") if kind == "tar" else content
    assert "delete it" in refusal(written(tmp_path, end[: int(part * len(end))], kind), "cut off or damaged")


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
def test_a_tar_that_ends_between_two_members_is_cut_off(tmp_path, kind):
    content = tar([("a.jpg", b"1"), ("b.jpg", b"2")])
    ends = [512 * blocks for blocks in (1, 3, 5)]  # after a folder, and after each file
    assert content[ends[-1] :].strip(b"\0") == b""
    for end in ends:
        part = gzip.compress(content[:end]) if kind == "tar.gz" else content[:end]
        refusal(written(tmp_path, part, kind), "its end is missing")


@pytest.mark.parametrize("end", [512, 1024, 5120, 10240])
def test_an_end_of_one_block_or_many_is_an_end(tmp_path, end):
    path = written(tmp_path, tar([("a.jpg", b"1")])[: 3 * 512] + bytes(end), "tar")
    assert list(members(path)) == [("a.jpg", 1)]


@pytest.mark.parametrize(
    "options", [["-b1"], ["-b20"], ["-z"], ["--format=v7"], ["--format=ustar"], ["--format=posix"]]
)
@needs_gnu_tar
def test_what_gnu_tar_writes_is_read(tmp_path, options):
    (tmp_path / "a").mkdir()
    names = [f"a/{number}.jpg" for number in range(3)]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    subprocess.run(["tar", *options, "-cf", "archive", "a"], cwd=tmp_path, check=True)
    assert dict(contents(tmp_path / "archive", names)) == {name: name.encode() for name in names}


@pytest.mark.parametrize("kind", KINDS)
def test_no_changed_byte_of_the_content_or_a_header_passes_unseen(tmp_path, kind):
    """But in a plain tar's contents, which have no checksum there."""
    content = bytearray(KINDS[kind]([(f"{n}.jpg", b"abc") for n in range(3)]))
    place = len(content) // 2 if kind == "tar.gz" else content.index(b"1.jpg") + {"zip": 6, "tar": 1}[kind]
    content[place] ^= 0xFF
    with pytest.raises(UserError, match="cut off or damaged"):
        list(contents(written(tmp_path, content, kind), {"0.jpg", "1.jpg", "2.jpg"}))


@pytest.mark.parametrize("content", [b"", b"<html>Quota exceeded</html>", b"PK\x03\x04", b"\x1f\x8b\x08"])
def test_what_is_no_archive_says_what_to_do(tmp_path, content):
    refusal(written(tmp_path, content), "cut off or damaged")
