from __future__ import annotations

import errno
import hashlib
import http.server
import io
import os
import tarfile
import threading

import pytest

from hyperrun.data import download
from hyperrun.data.download import fetch, unpack
from hyperrun.data.sources import Download
from hyperrun.errors import UserError

CONTENT = os.urandom(1 << 20)
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT under every path, as its fields say, and writes down what it was asked for."""

    daemon_threads = True
    content = CONTENT
    resumes = True
    """Whether it knows Range."""
    stop_after: list[int]
    """For each of the next requests: bytes after which the connection is cut."""
    answers: list[int]
    """For each of the next requests: an error status instead of the content."""
    says_length = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.stop_after, self.answers, self.asked = [], [], []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append((self.path, wanted))
        if server.answers:
            self.send_error(server.answers.pop(0))
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and server.resumes else 0
        if start >= len(server.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
            self.end_headers()
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        if server.says_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.stop_after.pop(0)] if server.stop_after else body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "PAUSE_S", 0.0)
    monkeypatch.setenv("no_proxy", "*")
    running = Server()
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.fixture
def seen():
    return []


@pytest.fixture
def get(tmp_path, server, seen):
    """Fetch sub/set.bin from the server (or from `urls`) and return its path."""

    def run(urls=None, md5=MD5):
        item = Download("sub/set.bin", tuple(urls or [server.url + "/set.bin"]), md5)
        return fetch(item, tmp_path, lambda *progress: seen.append(progress))

    return run


def part(tmp_path):
    return tmp_path / "sub" / "set.bin.part"


def test_a_file_arrives_whole_and_is_not_fetched_twice(get, server, seen, tmp_path):
    path = get()
    assert path == tmp_path / "sub" / "set.bin" and path.read_bytes() == CONTENT
    assert os.listdir(tmp_path / "sub") == ["set.bin"]
    assert seen[-1] == ("set.bin", len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen) and len(seen) > 1
    get()
    assert server.asked == [("/set.bin", None)]


def test_a_transfer_that_breaks_off_goes_on_where_it_stopped(get, server, seen):
    server.stop_after = [300_000, 200_000]
    assert get().read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == [None, "bytes=300000-", "bytes=500000-"]
    assert seen[-1] == ("set.bin", len(CONTENT), len(CONTENT))


def test_the_next_command_goes_on_where_this_one_gave_up(get, server, tmp_path):
    server.stop_after = [100_000] * 3
    with pytest.raises(UserError) as caught:
        get()
    assert "the transfer from 127.0.0.1 broke off" in str(caught.value)
    assert "type the same command again to go on after the 300,000 bytes received" in str(caught.value)
    assert part(tmp_path).read_bytes() == CONTENT[:300_000] and not (tmp_path / "sub" / "set.bin").exists()
    assert get().read_bytes() == CONTENT
    assert server.asked[-1] == ("/set.bin", "bytes=300000-")


def test_a_server_that_cannot_resume_starts_over(get, server, tmp_path):
    server.resumes = False
    server.stop_after = [300_000]
    assert get().read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_a_server_that_does_not_say_the_length(get, server, seen):
    server.says_length = False
    assert get().read_bytes() == CONTENT
    assert seen[-1] == ("set.bin", len(CONTENT), None)


def test_a_wrong_file_is_deleted(get, server, tmp_path):
    with pytest.raises(UserError, match="127.0.0.1 sent a file whose md5 is not the published one, which was deleted"):
        get(md5="0" * 32)
    assert os.listdir(tmp_path / "sub") == [] and len(server.asked) == 1


def test_a_wrong_file_never_replaces_what_is_there(get, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "set.bin").write_bytes(b"old")
    with pytest.raises(UserError):
        get(md5="0" * 32)
    assert (tmp_path / "sub" / "set.bin").read_bytes() == b"old"
    assert get().read_bytes() == CONTENT


def test_a_wrong_beginning_from_before_is_fetched_anew(get, server, tmp_path):
    (tmp_path / "sub").mkdir()
    part(tmp_path).write_bytes(b"x" * 1000)
    assert get().read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == ["bytes=1000-", None]


def test_a_part_that_is_already_whole_is_kept(get, server, tmp_path):
    (tmp_path / "sub").mkdir()
    part(tmp_path).write_bytes(CONTENT)
    assert get().read_bytes() == CONTENT
    assert len(server.asked) == 1


def test_a_part_that_is_too_long_is_fetched_anew(get, tmp_path):
    (tmp_path / "sub").mkdir()
    part(tmp_path).write_bytes(CONTENT + b"x")
    assert get().read_bytes() == CONTENT


def test_404_is_said_and_the_next_mirror_tried(get, server, tmp_path):
    server.answers = [404]
    assert get([server.url + "/a", server.url + "/b"]).read_bytes() == CONTENT
    assert [path for path, _ in server.asked] == ["/a", "/b"]
    (tmp_path / "sub" / "set.bin").unlink()
    server.answers = [404]
    with pytest.raises(UserError) as caught:
        get()
    assert str(caught.value) == (
        f"cannot fetch set.bin: 127.0.0.1 answered 404 Not Found; put it into {tmp_path / 'sub'} by hand "
        f"(its md5 is {MD5})"
    )
    assert os.listdir(tmp_path / "sub") == []


def test_a_mirror_goes_on_where_the_one_before_gave_up(get, server):
    server.stop_after = [100_000] * 3
    assert get([server.url + "/a", server.url + "/b"]).read_bytes() == CONTENT
    assert server.asked[-1] == ("/b", "bytes=300000-")


def test_a_server_in_trouble_is_asked_again(get, server):
    server.answers = [503, 503]
    assert get().read_bytes() == CONTENT


def test_no_connection_names_the_host_and_the_folder(get, server, tmp_path):
    gone = Server()
    gone.server_close()
    with pytest.raises(UserError) as caught:
        get([gone.url + "/x"])
    assert str(caught.value).startswith("cannot fetch set.bin: 127.0.0.1 could not be reached (Connection refused)")
    assert f"put it into {tmp_path / 'sub'} by hand" in str(caught.value) and "\n" not in str(caught.value)


def test_a_server_that_falls_silent(get, monkeypatch):
    import socket

    monkeypatch.setattr(download, "TIMEOUT_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, says nothing
        with pytest.raises(UserError, match="could not be reached \\(no answer within"):
            get([f"http://127.0.0.1:{silent.getsockname()[1]}/x"])


def test_a_full_disk_is_said_and_the_part_stays(get, tmp_path, monkeypatch):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class FullDisk(io.FileIO):
        def write(self, content):
            if self.tell() >= 2 * download.CHUNK:
                raise full
            return super().write(content)

    monkeypatch.setattr(download, "FileIO", FullDisk)
    with pytest.raises(UserError, match=r"^cannot write .*set\.bin\.part: No space left on device$"):
        get()
    assert part(tmp_path).stat().st_size >= 2 * download.CHUNK


def test_a_root_that_cannot_be_made(get, tmp_path):
    (tmp_path / "sub").write_text("a file")
    with pytest.raises(UserError, match=r"^cannot write .*: File exists|Not a directory"):
        get()


def test_two_processes_do_not_write_one_file(get, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    (tmp_path / "sub").mkdir()
    with part(tmp_path).open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process is fetching"):
            get()
    assert get().read_bytes() == CONTENT


# ---------------------------------------------------------------- archives


def archive(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                info.type, info.linkname = content
                tar.addfile(info)
    return path


def test_an_archive_becomes_a_folder(tmp_path):
    unpack(archive(tmp_path / "a.tgz", {"set/x": b"1", "set/deep/y": b"2"}), "set", tmp_path)
    assert (tmp_path / "set" / "x").read_bytes() == b"1" and (tmp_path / "set" / "deep" / "y").read_bytes() == b"2"
    assert sorted(os.listdir(tmp_path)) == ["a.tgz", "set"]


def test_unpacking_again_replaces_files_and_leaves_others(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "x").write_bytes(b"damaged")
    (tmp_path / "set" / "mine").write_bytes(b"mine")
    unpack(archive(tmp_path / "a.tgz", {"set/x": b"1", "set/deep/y": b"2"}), "set", tmp_path)
    contents = {path.name: path.read_bytes() for path in (tmp_path / "set").rglob("*") if path.is_file()}
    assert contents == {"x": b"1", "mine": b"mine", "y": b"2"}
    assert sorted(os.listdir(tmp_path)) == ["a.tgz", "set"]


def test_nothing_leaves_the_folder(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    members = {
        "set/x": b"1",
        "../escaped": b"!",
        "set/../../escaped": b"!",
        str(tmp_path / "escaped"): b"!",
        "other/z": b"!",
        "set/link": (tarfile.SYMTYPE, "../../escaped"),
        "set/hard": (tarfile.LNKTYPE, "set/x"),
        "set/device": (tarfile.CHRTYPE, ""),
    }
    unpack(archive(tmp_path / "a.tgz", members), "set", root)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "a.tgz",
        "root",
        "root/set",
        "root/set/x",
    ]


def test_damaged_or_foreign_archives_leave_nothing(tmp_path):
    whole = archive(tmp_path / "a.tgz", {"set/x": os.urandom(100_000)}).read_bytes()
    (tmp_path / "a.tgz").write_bytes(whole[:50_000])
    with pytest.raises(UserError, match=r"^cannot read .*a\.tgz: [^\n]+$"):
        unpack(tmp_path / "a.tgz", "set", tmp_path)
    with pytest.raises(UserError, match=r"a\.tgz does not hold the folder set"):
        unpack(archive(tmp_path / "a.tgz", {"other/x": b"1"}), "set", tmp_path)
    assert os.listdir(tmp_path) == ["a.tgz"]
