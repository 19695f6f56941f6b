from __future__ import annotations

import struct

import numpy as np
import pytest
import torch
from PIL import Image

from hyperrun.data import ImageSplit, load_images
from hyperrun.data.images import FolderSplit, decode
from hyperrun.data.loader import ImageLoader
from hyperrun.errors import UserError


def paint(path, width=10, height=8, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


@pytest.fixture
def pictures(tmp_path):
    for part, count in (("train", 10), ("test", 3)):
        for label, name in enumerate(("cat", "dog")):
            for i in range(count):
                paint(tmp_path / part / name / f"{i}.png", seed=100 * label + i)
    return tmp_path


@pytest.fixture
def cfg(pictures, image_cfg):
    return lambda **keys: image_cfg(**{"name": "image_folder", "root": str(pictures), "image_size": 8, **keys})


def test_classes_are_the_folders_and_pictures_are_cropped_from_the_centre(cfg, pictures):
    data = load_images(cfg())
    assert data.classes == ["cat", "dog"] and data.verified
    assert (len(data.train), len(data.val), len(data.test)) == (16, 4, 6)
    assert data.test.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert isinstance(data.test, ImageSplit) and data.test.images.shape == (6, 3, 8, 8)
    first = np.asarray(Image.open(pictures / "test" / "cat" / "0.png"))[:, 1:9]  # 10 wide: one column off each side
    assert np.array_equal(data.test.images[0].permute(1, 2, 0).numpy(), first)


def test_the_shorter_side_is_scaled(tmp_path):
    Image.new("RGB", (40, 20), (200, 100, 50)).save(tmp_path / "wide.png")
    assert decode(tmp_path / "wide.png", 10).flatten(1).unique(dim=1).tolist() == [[200], [100], [50]]
    assert decode(tmp_path / "wide.png", 10).shape == (3, 10, 10)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "LA", "CMYK"])
def test_every_kind_of_picture_becomes_rgb(tmp_path, mode):
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    Image.new(mode, (9, 9)).save(path)
    assert decode(path, 4).shape == (3, 4, 4)


def test_palette_with_transparency_is_quiet(tmp_path):
    Image.new("P", (9, 9)).save(tmp_path / "x.png", transparency=b"\0\1")
    assert decode(tmp_path / "x.png", 4).shape == (3, 4, 4)


def test_upright_as_the_camera_says(tmp_path):
    picture = Image.new("RGB", (8, 8))
    picture.paste((255, 255, 255), (0, 0, 8, 4))  # white above
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    picture.save(tmp_path / "x.png", exif=exif)
    image = decode(tmp_path / "x.png", 8)
    assert image[:, :4].max() == 0 and image[:, 4:].min() == 255


def test_jpegs_decoded_at_a_fraction_keep_their_detail(tmp_path):
    wave = (127 + 120 * np.sin(np.arange(192) * 2 * np.pi / 24)).astype(np.uint8)  # 8 waves of 24 pixels
    picture = Image.fromarray(np.broadcast_to(wave, (192, 192)).copy()).convert("RGB")
    picture.save(tmp_path / "x.jpg", quality=95)
    expected = np.asarray(picture.resize((48, 48), Image.Resampling.BILINEAR)).astype(int)
    ours = decode(tmp_path / "x.jpg", 48).permute(1, 2, 0).numpy()
    assert expected.std() > 60 and np.abs(ours - expected)[:, 2:-2].max() < 12


def test_own_validation_folder_is_used(cfg, pictures):
    paint(pictures / "val" / "dog" / "0.png", seed=7)
    data = load_images(cfg(val_size=500))
    assert (len(data.train), len(data.val)) == (20, 1) and data.val.labels.tolist() == [1]


def test_both_paths_give_the_same_batches(cfg):
    kept = load_images(cfg(loader="device"))
    lazy = load_images(cfg(loader="dataloader"))
    assert isinstance(kept.train, ImageSplit) and isinstance(lazy.train, FolderSplit)
    assert torch.equal(kept.mean, lazy.mean) and torch.equal(kept.std, lazy.std)

    def batches(data, loader, split=None):
        made = ImageLoader(
            data,
            cfg(loader=loader, crop_padding=1, flip=True, cutout=2),
            device=torch.device("cpu"),
            batch_size=8,
            eval_batch_size=3,
            seed=0,
        )
        assert made.path == loader
        return list(made.eval_batches(split) if split else made.train_batches(0))

    for split in (None, "train", "val", "test"):
        here, there = batches(kept, "device", split), batches(lazy, "dataloader", split)
        assert len(here) == len(there) > 0
        for (x, y), (x2, y2) in zip(here, there, strict=True):
            assert torch.equal(x, x2) and torch.equal(y, y2)
    forced = batches(lazy, "device")
    assert torch.equal(forced[0][0], batches(kept, "device")[0][0])


def test_pictures_stay_in_files_when_memory_is_short(cfg, monkeypatch):
    needed = 26 * 3 * 8 * 8
    monkeypatch.setattr("hyperrun.data.folder.free_memory", lambda device: 4 * needed)
    assert isinstance(load_images(cfg()).train, FolderSplit)
    monkeypatch.setattr("hyperrun.data.folder.free_memory", lambda device: 4 * needed + 1)
    assert isinstance(load_images(cfg(split_seed=1)).train, ImageSplit)


def test_pictures_in_folders_of_a_class_count_and_hidden_files_do_not(cfg, pictures):
    paint(pictures / "train" / "cat" / "more" / "x.PNG")
    (pictures / "train" / "cat" / ".hidden.png").write_bytes(b"")
    (pictures / "train" / "cat" / "notes.txt").write_text("")
    (pictures / "train" / ".cache").mkdir()
    data = load_images(cfg())
    assert len(data.train) + len(data.val) == 21 and data.classes == ["cat", "dog"]


@pytest.mark.parametrize("loader", ["device", "dataloader"])
def test_a_broken_picture_is_named(cfg, pictures, loader):
    (pictures / "train" / "dog" / "5.png").write_bytes(b"\x89PNG\r\n\x1a\n but no more")
    with pytest.raises(UserError, match=r"^cannot read the picture .*dog/5\.png: [^\n]+$"):
        load_images(cfg(loader=loader))


def test_a_truncated_picture_is_named(tmp_path):
    paint(tmp_path / "x.png", 64, 64)
    content = (tmp_path / "x.png").read_bytes()
    (tmp_path / "x.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"cannot read the picture .*x\.png: "):
        decode(tmp_path / "x.png", 8)


def test_what_is_missing_is_said(cfg, pictures, tmp_path):
    with pytest.raises(UserError, match="needs data.root=DIR, a folder with train/CLASS"):
        load_images(cfg(root=None))
    with pytest.raises(UserError, match="image_size must be a positive number of pixels, not None"):
        load_images(cfg(image_size=None))
    with pytest.raises(UserError, match="nowhere/train is not a folder"):
        load_images(cfg(root=str(tmp_path / "nowhere")))
    (tmp_path / "empty" / "train").mkdir(parents=True)
    with pytest.raises(UserError, match="empty/train holds no folders"):
        load_images(cfg(root=str(tmp_path / "empty")))
    (tmp_path / "empty" / "train" / "cat").mkdir()
    with pytest.raises(UserError, match="empty/train holds no pictures"):
        load_images(cfg(root=str(tmp_path / "empty")))
    paint(tmp_path / "empty" / "train" / "cat" / "x.png")
    with pytest.raises(UserError, match="empty/test is not a folder"):
        load_images(cfg(root=str(tmp_path / "empty")))
    paint(pictures / "test" / "horse" / "x.png")
    with pytest.raises(UserError, match="test has classes that train lacks: horse"):
        load_images(cfg())


# ---------------------------------------------------------------- pictures of other kinds


def grey16(level: int, mode: str = "uint16") -> Image.Image:
    return Image.fromarray(np.full((9, 9), level, mode))


@pytest.mark.parametrize(("level", "expected"), [(0, 0), (1000, 4), (32768, 128), (65535, 255)])
@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.pgm"])
def test_grey_of_16_bits_is_scaled(tmp_path, name, level, expected):
    grey16(level).save(tmp_path / name)
    assert decode(tmp_path / name, 4).unique().tolist() == [expected]


def test_grey_of_16_bits_with_a_transparent_level(tmp_path):
    grey16(32768).save(tmp_path / "x.png", transparency=7)
    assert decode(tmp_path / "x.png", 4).unique().tolist() == [128]


def test_grey_of_12_bits_is_scaled(tmp_path):
    # four pixels of 2048 = 0x800, two in three bytes, as Pillow reads but does not write them
    content = struct.pack("<2sHI", b"II", 42, 14) + b"\x80\x08\x00\x80\x08\x00"
    tags = {256: 2, 257: 2, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 2, 279: 6}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    (tmp_path / "x.tif").write_bytes(content + struct.pack("<H", len(tags)) + entries + bytes(4))
    assert decode(tmp_path / "x.tif", 2).unique().tolist() == [128]


def test_grey_whose_white_is_zero_is_turned_round(tmp_path):
    grey16(1000).save(tmp_path / "x.tif", tiffinfo={262: 0})
    assert decode(tmp_path / "x.tif", 4).unique().tolist() == [251]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV"])
def test_modes_of_8_bits_keep_black_and_white(tmp_path, monkeypatch, mode):
    """Of every other mode of Pillow's its numbers are cut off nowhere."""
    for level in (0, 255):
        picture = Image.new("L", (9, 9), level)
        made = picture.convert("RGB").convert(mode) if mode in ("CMYK", "YCbCr", "HSV") else picture
        made = made.convert({"RGBX": "RGB", "PA": "P"}.get(mode, mode)).convert(mode)
        monkeypatch.setattr(Image, "open", lambda _, made=made: made.copy())
        assert decode(tmp_path / "x.png", 4).unique().tolist() == [level]


@pytest.mark.parametrize(("kind", "mode"), [("float32", "F"), ("int32", "I"), ("int16", "I")])
def test_numbers_without_a_known_white_are_refused_by_name(tmp_path, kind, mode):
    if kind == "int16":
        tags = {339: 2}  # SampleFormat: signed
        grey16(300).save(tmp_path / "x.tif", tiffinfo=tags)
    else:
        grey16(300, kind).save(tmp_path / "x.tif")
    with pytest.raises(UserError, match=rf"cannot read the picture .*x\.tif: its pixels are .*\(mode {mode}\)"):
        decode(tmp_path / "x.tif", 4)


def test_broken_exif_beside_the_orientation_does_not_matter(tmp_path):
    path = tmp_path / "x.jpg"
    picture = Image.new("RGB", (8, 8))
    picture.paste((255, 255, 255), (0, 0, 8, 4))  # white above
    # upside down, and an exposure time whose numbers are too large for what it is written as
    entries = struct.pack("<HHIHHHHII", 0x0112, 3, 1, 3, 0, 0x829A, 12, 1, 38)
    exif = b"Exif\0\0II" + struct.pack("<HIH", 42, 8, 2) + entries + bytes(4) + struct.pack("<d", 1e300)
    picture.save(path, exif=exif)
    image = decode(path, 8)
    assert image[:, :3].max() < 40 and image[:, 5:].min() > 215


def test_whatever_pillow_raises_the_file_is_named(tmp_path, monkeypatch):
    paint(tmp_path / "x.png")

    def broken(self):
        raise struct.error("'L' format requires 0 <= number <= 4294967295")

    monkeypatch.setattr(Image.Image, "getexif", broken)
    with pytest.raises(UserError, match=r"^cannot read the picture .*x\.png: 'L' format requires"):
        decode(tmp_path / "x.png", 8)


# ---------------------------------------------------------------- what is looked at


def test_hidden_folders_are_not_looked_at(cfg, pictures):
    paint(pictures / "train" / "cat" / ".thumbnails" / "x.png")
    paint(pictures / "train" / "cat" / "more" / ".thumbnails" / "x.png")
    data = load_images(cfg())
    assert (len(data.train), len(data.val), len(data.test)) == (16, 4, 6) and data.warnings() == []


@pytest.mark.parametrize("to", [".", "..", "../..", "../../.."])
def test_links_in_a_circle_are_not_followed(cfg, pictures, to):
    paint(pictures / "train" / "cat" / "more" / "x.png", seed=9)
    (pictures / "train" / "cat" / "more" / "back").symlink_to(pictures / "train" / "cat" / "more" / to)
    data = load_images(cfg())
    assert len(data.train) + len(data.val) == 21


def test_links_to_themselves_and_to_nowhere(cfg, pictures):
    (pictures / "train" / "cat" / "loop").symlink_to("loop")
    (pictures / "train" / "loop").symlink_to("loop")
    assert len(load_images(cfg()).train) == 16
    (pictures / "train" / "cat" / "gone.png").symlink_to("nowhere.png")
    with pytest.raises(UserError, match=r"cannot read the picture .*cat/gone\.png: "):
        load_images(cfg(split_seed=1))


def test_links_elsewhere_are_followed(cfg, pictures, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    paint(elsewhere / "x.png")
    (pictures / "train" / "cat" / "link").symlink_to(elsewhere)
    data = load_images(cfg())
    assert len(data.train) + len(data.val) == 21


def test_files_that_are_skipped_are_counted(cfg, pictures):
    for name in ("train/cat/notes.txt", "train/dog/x.heic", "train/dog/y.heic", "train/readme", "train/cat/.hidden"):
        (pictures / name).write_bytes(b"")
    paint(pictures / "test" / "stray.png")
    said = load_images(cfg()).warnings()
    assert said == [
        f"{pictures}/train: skipped what is no picture in a class: 4 (.heic: 2, .txt: 1, no ending: 1)",
        f"{pictures}/test: skipped what is no picture in a class: 1 (.png: 1)",
    ]


def test_folder_without_pictures_is_no_class(cfg, pictures):
    for part in ("train", "test"):
        (pictures / part / "bird" / "more").mkdir(parents=True)
    data = load_images(cfg())
    assert data.classes == ["cat", "dog"] and data.num_classes == 2
    assert data.warnings() == [f"{pictures}/{part}/bird: no pictures, so it is no class" for part in ("train", "test")]
    paint(pictures / "test" / "bird" / "x.png")
    with pytest.raises(UserError, match="test has classes that train lacks: bird"):
        load_images(cfg())


def test_class_that_is_not_tested_is_said(cfg, pictures):
    paint(pictures / "train" / "ant" / "x.png")
    data = load_images(cfg())
    assert data.classes == ["ant", "cat", "dog"]
    assert data.warnings() == [f"{pictures}/test/ant: no pictures of this class"]


def test_validation_larger_than_training_is_said(cfg):
    assert load_images(cfg(val_size=10)).warnings() == []
    assert load_images(cfg(val_size=11)).warnings() == [
        "validation is larger than training: 11 against 9; data.val_size sets it"
    ]
