from __future__ import annotations

import functools
import hashlib
import http.server
import json
import os
import pickle
import platform
import re
import sys
import tarfile
import threading

import numpy as np
import pytest
from PIL import Image

from hyperrun.commands import data as command
from hyperrun.data import corpora, load_images, names_of
from hyperrun.data.fetch import plain_lines, progress_shown
from hyperrun.data.strokes import iam_online, sketch_rnn
from hyperrun.errors import UserError


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Run the command with tmp_path/root as the data folder; return its status, its output, and what stderr got."""
    monkeypatch.setenv("HYPERRUN_DATA", str(tmp_path / "root"))

    def call(*argv):
        status = command.main([str(word) for word in argv])
        out, err = capsys.readouterr()
        return status, out, err

    return call


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """A small CIFAR-10 on a server of this machine: its archive is published there, with its own checksums."""
    from torchvision.datasets import CIFAR10

    folder = tmp_path / "published" / CIFAR10.base_folder
    folder.mkdir(parents=True)
    entries = []
    for file in [entry[0] for entry in [*CIFAR10.train_list, *CIFAR10.test_list]]:
        content = {"data": np.full((10, 3072), len(entries), np.uint8), "labels": list(range(10))}
        (folder / file).write_bytes(pickle.dumps(content, protocol=2))
        entries.append([file, md5(folder / file)])
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}, protocol=2))
    archive = tmp_path / "published" / CIFAR10.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, arcname=folder.name)
    handler = functools.partial(QuietHandler, directory=str(tmp_path / "published"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{server.server_port}/{CIFAR10.filename}")
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(archive))
    monkeypatch.setattr(CIFAR10, "train_list", entries[:-1])
    monkeypatch.setattr(CIFAR10, "test_list", entries[-1:])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5(folder / "batches.meta")})
    yield archive
    server.shutdown()
    server.server_close()
    thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def md5(path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_without_a_name_the_sets_are_listed(run, tmp_path):
    status, out, _ = run()
    assert status == 0 and f"looking in {tmp_path / 'root'} ($HYPERRUN_DATA)" in out
    everything = [name for kind in ("images", "text", "strokes", "pairs") for name in names_of(kind)]
    assert [line.split()[0] for line in out.splitlines()[1:]] == everything
    assert (
        "ptb              missing     hyperrun data ptb\n" in out
        and "text             your own    data.path=FILE\n" in out
    )
    status, out, _ = run("--json")
    sets = {row["name"]: row["status"] for row in json.loads(out)["sets"]}
    assert status == 0 and sets["digits"] == "present" and sets["cifar10"] == "missing" and list(sets) == everything
    assert sets["pydocs"] == "present" and sets["enwik8"] == "missing"
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "train_32x32.mat").write_bytes(b"x")
    assert "svhn             incomplete" in run()[1]


def test_what_is_missing_is_listed(run, tmp_path):
    status, out, _ = run("cifar10")
    assert status == 1
    assert "cifar-10-batches-py/data_batch_1" in out and "missing" in out
    assert "cifar-10-batches-bin would do as well" in out
    assert out.splitlines()[-1] == "incomplete; fetch it: hyperrun data cifar10 --download"
    report = json.loads(run("mnist", "--root", tmp_path / "my data", "--json")[1])
    assert report["status"] == "missing" and len(report["missing"]) == 4 and report["root"] == str(tmp_path / "my data")
    assert report["note"].endswith(f"hyperrun data mnist --root '{tmp_path / 'my data'}' --download")


def test_files_without_published_checksums(run, tmp_path):
    folder = tmp_path / "root" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
        (folder / name).write_bytes(bytes(3073))
    status, out, _ = run("cifar10")
    assert status == 0 and "3.0 KiB  checksum not checkable" in out and "data.verify=false" in out
    assert json.loads(run("cifar10", "--json")[1])["status"] == "not checkable"
    (folder / "test_batch.bin").unlink()
    status, out, _ = run("cifar10")
    assert status == 1 and re.search(r"test_batch\.bin +missing", out)


def test_download_fetches_verifies_unpacks_and_trains(run, cifar, tmp_path):
    status, out, err = run("cifar10", "--download")
    assert status == 0 and "complete, as published: hyperrun train data=cifar10" in out
    assert out.count("checksum ok") == 7
    size = cifar.stat().st_size
    assert f"cifar-10-python.tar.gz: {size / 1024:.1f} KiB of {size / 1024:.1f} KiB" in err and "\r" not in err
    assert sorted(os.listdir(tmp_path / "root")) == ["cifar-10-batches-py", "cifar-10-python.tar.gz"]
    from hyperrun.data.kinds import ImageData

    cfg = ImageData("images", "cifar10", None, True, 1, 10, 0, None, 0, False, 0, "auto", 0)
    data = load_images(cfg)
    assert data.verified and (len(data.train), len(data.val), len(data.test)) == (40, 10, 10)
    cifar.unlink()  # nothing is asked of the server where everything is there
    assert run("cifar10", "--download")[0] == 0


def test_download_mends_altered_files(run, cifar, tmp_path):
    run("cifar10", "--download")
    altered = tmp_path / "root" / "cifar-10-batches-py" / "data_batch_2"
    altered.write_bytes(b"altered")
    status, out, _ = run("cifar10")
    assert status == 1 and "data_batch_2         7 B  checksum differs" in out and "not as published" in out
    assert run("cifar10", "--download")[0] == 0
    assert altered.read_bytes() != b"altered"


def test_an_archive_put_there_by_hand_is_unpacked(run, cifar, tmp_path):
    (tmp_path / "root").mkdir()
    cifar.rename(tmp_path / "root" / cifar.name)
    assert run("cifar10", "--download")[0] == 0


def test_download_of_a_wrong_archive(run, cifar, tmp_path):
    cifar.write_bytes(b"something else")
    with pytest.raises(UserError, match="md5 is not the published one, which was deleted.*and type the same command"):
        run("cifar10", "--download")
    assert os.listdir(tmp_path / "root") == []


def test_a_terminal_gets_a_bar(capsys, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress_shown() as progress:
        progress("file.gz", 1 << 20, 2 << 20)
    shown = capsys.readouterr().err
    assert "file.gz" in shown and "━" in shown and "1.0/2.1 MB" in shown


def test_plain_lines_are_few(capsys):
    progress = plain_lines()
    for done in range(1, 1001):
        progress("file", done << 20, 1000 << 20)
    assert capsys.readouterr().err.splitlines() == ["file: 1.0 MiB of 1000.0 MiB", "file: 1000.0 MiB of 1000.0 MiB"]
    progress("unknown", 5, None)
    assert capsys.readouterr().err == "unknown: 5 B\n"


def test_sets_that_need_no_files(run):
    assert run("digits") == (0, "digits comes with scikit-learn: nothing to fetch\n", "")
    assert json.loads(run("digits", "--json")[1])["status"] == "ok"
    assert run("digits", "--download")[0] == 0


def test_texts_that_need_no_files(run):
    note = f"comes with Python {platform.python_version()}: nothing to fetch"
    assert run("pydocs", "--download") == (0, f"pydocs {note}\n", "")
    assert json.loads(run("pydocs", "--json")[1]) == {"name": "pydocs", "status": "ok", "note": note}
    with pytest.raises(UserError, match="^text is your own file: hyperrun train model=hyperlstm data=text"):
        run("text")


def test_strokes(run, tmp_path, monkeypatch):
    assert run("font_strokes") == (0, "font_strokes comes with matplotlib (its fonts): nothing to fetch\n", "")
    assert run("number_words") == (0, "number_words is made by two rules: nothing to fetch\n", "")
    with pytest.raises(
        UserError, match=r"^strokes is your own file: .*data.path=FILE.npz reads it; an npz .* points and"
    ):
        run("strokes")
    status, out, _ = run("iam_online")
    assert status == 1 and out.splitlines()[-1].startswith("incomplete; register at https://fki.tic.heia-fr.ch/")
    assert "  iam_online_lines.npz or iam_online/lineStrokes or lineStrokes would do as well\n" in out
    with pytest.raises(UserError, match="^hyperrun does not fetch sheep into .*CC BY-NC 4.0"):
        run("sheep", "--download")

    file = tmp_path / "root" / "strokes" / "omniglot.npz"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"some bytes")
    monkeypatch.setitem(sketch_rnn.FILES, "omniglot_strokes", ("omniglot/omniglot.npz", sha256(b"some bytes"), "MIT"))
    status, out, _ = run("omniglot_strokes")
    assert status == 0 and out.endswith(
        "complete, as published: hyperrun train model=hyperlstm data=omniglot_strokes\n"
    )
    clone = tmp_path / "root" / "sketch-rnn-datasets" / "kanji" / "short_kanji.npz"
    clone.parent.mkdir(parents=True)
    clone.write_bytes(b"some bytes")
    status, out, _ = run("kanji")
    assert status == 0 and out.endswith(
        "no published checksums: hyperrun train model=hyperlstm data=kanji data.verify=false\n"
    )
    for path in iam_online.iam_online_source().forms[2].files:
        (tmp_path / "root" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / path).write_bytes(b"some bytes")
    status, out, _ = run("iam_online")
    assert status == 0 and "complete; what is in these files is checked as they are read: hyperrun train model=" in out


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_text_that_people_get_themselves(run, tmp_path, monkeypatch):
    root = tmp_path / "root"
    status, out, _ = run("ptb_char")
    assert status == 1 and re.search(r"^  ptb/ptb\.char\.valid\.txt +missing$", out, re.M)
    assert "  simple-examples/data/ptb.char.*.txt or ptb.char.*.txt would do as well\n" in out
    assert re.search(
        r"^incomplete; put ptb\.char\.train\.txt, .* simple-examples\.tgz there \(http.* LDC's\)$", out, re.M
    )
    with pytest.raises(
        UserError, match=f"^hyperrun does not fetch text8 into {root}: unpack text8.zip there \\(M. Mah"
    ):
        run("text8", "--download")

    monkeypatch.setattr(corpora, "ENWIK8", hashlib.sha256(b"some bytes").hexdigest())
    root.mkdir()
    (root / "enwik8").write_bytes(b"some bytes")
    status, out, _ = run("enwik8", "--download")
    assert status == 0 and "enwik8        10 B  checksum ok" in out
    assert out.splitlines()[-1] == "complete, as published: hyperrun train model=hyperlstm data=enwik8"
    assert f"enwik8           present     {root / 'enwik8'}\n" in run()[1]
    (root / "enwik8").write_bytes(b"other bytes")
    status, out, _ = run("enwik8")
    assert status == 1 and "checksum differs" in out
    assert "complete, but not as published; unpack enwik8.zip there" in out
    assert json.loads(run("enwik8", "--json")[1])["status"] == "differs"


def test_a_folder_of_pictures_is_counted(run, tmp_path):
    for path in ("train/cat/1.png", "train/cat/2.png", "train/dog/1.png", "test/dog/1.png"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / path)
    status, out, _ = run("image_folder", "--root", tmp_path)
    assert status == 0 and "3 pictures (cat 2, dog 1)" in out and "1 pictures (cat 0, dog 1)" in out
    counts = json.loads(run("image_folder", "--root", tmp_path, "--json")[1])["pictures"]
    assert counts == {"train": {"cat": 2, "dog": 1}, "test": {"cat": 0, "dog": 1}}
    assert f"{tmp_path}/test/cat: no pictures of this class" in out
    with pytest.raises(UserError, match="hyperrun data image_folder --root DIR looks at them"):
        run("image_folder")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["cifra10"], r"^unknown data set 'cifra10'; did you mean 'cifar10'\? \(allowed: "),
        (["mnist", "--downlod"], r"^unknown argument '--downlod'; did you mean '--download'\?"),
        (["mnist", "--root"], r"^argument --root: expected one argument"),
        (["mnist", "svhn"], "^unknown argument 'svhn'"),
        (["--download"], r"^--download needs the name of a data set \(one of mnist, .*svhn\)$"),
        (["ptb-char"], r"^unknown data set 'ptb-char'; did you mean 'ptb_char'\?"),
    ],
)
def test_typing_mistakes(run, argv, message):
    with pytest.raises(UserError, match=message) as caught:
        run(*argv)
    assert "\n" not in str(caught.value)


@pytest.mark.data
def test_real_files(capsys):
    assert command.main(["mnist", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "ok"
    assert command.main(["cifar10", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["form"] in ("binary", "python", "archive")
    for name in ("ptb_char", "ptb", "enwik8"):
        assert command.main([name]) == 0
        assert f"complete, as published: hyperrun train model=hyperlstm data={name}" in capsys.readouterr().out


def test_pairs_say_how_they_are_had_and_trained_on(run, tmp_path):
    status, out, _ = run("multi30k_mscoco")
    assert status == 1 and "test_2017_mscoco.fr.gz" in out and "into multi30k there" in out
    folder = tmp_path / "root" / "newstest2014"
    folder.mkdir(parents=True)
    for language in ("en", "fr"):
        (folder / f"newstest2014-fren-{'src' if language == 'en' else 'ref'}.{language}.sgm").write_text("<doc>")
    status, out, _ = run("wmt14_enfr")
    assert status == 0 and "hyperrun train model=hyperseq2seq data=wmt14_enfr data.verify=false" in out
    assert out.splitlines()[-1].startswith("to train, put the corpora of")
    with pytest.raises(UserError, match="two files of your own: .*data.source=FILE data.target=FILE"):
        run("parallel")
