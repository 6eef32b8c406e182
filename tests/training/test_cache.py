"""Decode once: the cache holds what a fresh decoding gives, whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from planted import Planted, plant
from tabib.config import Data, Input
from tabib.dataset import build_cache, cache, clear_cache, fit_image, index_folder, intensity_statistics, list_cache, read_row_pixels
from tabib.errors import DataError, RunError
from tabib.images import Image as Picture
from tabib.images import ImageFacts
from tabib.prediction import prepare
from tabib.records import Model


@pytest.fixture
def planted(tmp_path: Path) -> Planted:
    return plant(tmp_path)


def test_holds_what_a_fresh_decoding_gives(planted: Planted, tmp_path: Path) -> None:
    study, index = planted.study, planted.index
    built = build_cache(study.data, index, study.input, folder=tmp_path / "kept")
    assert built.images.shape == (60, 1, 20, 20)
    assert built.images.dtype == np.uint8
    for row in (0, 17, 59):
        fresh = fit_image(read_row_pixels(study.data, index, row), height=20, width=20, channels=1, fit="stretch")
        np.testing.assert_array_equal(built.images[row], fresh)
        np.testing.assert_array_equal(built.statistics[row], intensity_statistics(fresh))


def test_decodes_once(planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, index = planted.study, planted.index
    first = build_cache(study.data, index, study.input, folder=tmp_path / "kept", workers=1)
    monkeypatch.setattr(cache, "map_in_processes", None)
    for same in ({}, {"intensity": "zscore"}):
        again = build_cache(study.data, index, study.input.model_copy(update=same), folder=tmp_path / "kept", workers=1)
        assert again.key == first.key
        np.testing.assert_array_equal(again.images, first.images)
    for other in ({"height": 24}, {"channels": 3}, {"fit": "crop"}):
        with pytest.raises(TypeError):
            build_cache(study.data, index, study.input.model_copy(update=other), folder=tmp_path / "kept", workers=1)


def test_an_entry_that_was_cut_short_is_made_again(planted: Planted, tmp_path: Path) -> None:
    study, index = planted.study, planted.index
    first = np.array(build_cache(study.data, index, study.input, folder=tmp_path / "kept").images)
    for entry in (tmp_path / "kept").glob("*.npy"):
        os.truncate(entry, entry.stat().st_size // 2)
    np.testing.assert_array_equal(build_cache(study.data, index, study.input, folder=tmp_path / "kept").images, first)


def test_a_refused_row_takes_no_place(planted: Planted, tmp_path: Path) -> None:
    index = planted.index.with_columns(refused=pl.when(pl.col("row") == 3).then(pl.lit("broken")).otherwise("refused"))
    built = build_cache(planted.study.data, index, planted.study.input, folder=tmp_path / "kept", workers=1)
    assert built.positions(np.array([2, 4, 59])).tolist() == [2, 3, 58]


def test_sixteen_bits_stay_and_eight_bits_mean_the_same_share(tmp_path: Path) -> None:
    for name, pixels in {
        "A/a": np.arange(400, dtype=np.uint16).reshape(20, 20) * 160,
        "B/b": np.arange(200, dtype=np.uint8).reshape(10, 20),
    }.items():
        (tmp_path / "films" / name).parent.mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "films" / f"{name}.png")
    data = Data(folder=tmp_path / "films")
    built = build_cache(data, index_folder(data), Input(height=10, width=20, channels=1), folder=tmp_path / "kept", workers=1)
    assert built.images.dtype == np.uint16
    np.testing.assert_array_equal(built.images[1, 0], np.arange(200).reshape(10, 20) * 257)


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_takes_no_more(planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: int) -> None:
    def full(handle: int, start: int, size: int) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(RunError, match=os.strerror(reason)):
        build_cache(planted.study.data, planted.index, planted.study.input, folder=tmp_path / "kept", workers=1)
    assert not list((tmp_path / "kept").iterdir())


def test_a_file_that_changed_since_it_was_indexed(planted: Planted, tmp_path: Path) -> None:
    path = planted.index["path"][5]
    (planted.study.data.folder / path).write_bytes(b"no image")
    with pytest.raises(DataError, match=path):
        build_cache(planted.study.data, planted.index, planted.study.input, folder=tmp_path / "kept", workers=1)
    assert not list((tmp_path / "kept").iterdir())


def test_two_builders_at_one_time(planted: Planted, tmp_path: Path) -> None:
    def build(_: int) -> np.ndarray:
        return build_cache(planted.study.data, planted.index, planted.study.input, folder=tmp_path / "kept", workers=1).images

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(build, range(2))
    np.testing.assert_array_equal(first, second)
    assert len(list_cache(tmp_path / "kept")) == 1


def test_listed_and_cleared(planted: Planted, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    assert list_cache(folder) == clear_cache(folder) == []
    kept = build_cache(planted.study.data, planted.index, planted.study.input, folder=folder, workers=1)
    (folder / ".0123.npy.abc.part").write_bytes(b"left by a kill")
    entries = list_cache(folder)
    assert sorted(entry.images for entry in entries) == [0, 60]
    assert sum(entry.bytes for entry in entries) >= 60 * 400
    assert clear_cache(folder) == entries
    assert not list(folder.iterdir())
    assert kept.images[59].any(), "a run that reads the array keeps it"


@pytest.mark.slow
def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    """Anonymous memory of a process that builds a cache and reads all of it, for 10 times the images."""
    planted = plant(tmp_path)
    few, many = (_anonymous_memory(tmp_path, copies) for copies in (1, 10))
    assert len(planted.index) == 60
    assert many - few < 0.1 * few


def _anonymous_memory(tmp_path: Path, copies: int) -> int:
    folder = tmp_path / f"films{copies}"
    for copy in range(copies):
        shutil.copytree(
            tmp_path / "films", folder, copy_function=lambda a, b, copy=copy: shutil.copy(a, f"{b[:-4]}_{copy}.png"), dirs_exist_ok=True
        )
    code = f"""
from pathlib import Path
from tabib.config import Data, Input
from tabib.config import Data, Input
from tabib.dataset import build_cache, index_folder
data = Data(folder=Path({str(folder)!r}))
built = build_cache(data, index_folder(data, workers=1), Input(height=128, width=128, channels=1), folder=Path({str(tmp_path / "kept")!r}))
assert built.images.sum() > 0
print([line.split()[1] for line in open("/proc/self/status") if line.startswith("RssAnon")][0])
"""
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


@settings(deadline=None, max_examples=25)
@given(arrays.arrays(st.sampled_from([np.uint8, np.uint16]), (1, 7, 9)))
def test_statistics_are_numpys(pixels: np.ndarray) -> None:
    shares = pixels / np.iinfo(pixels.dtype).max
    percentiles = [np.percentile(shares, share, method="inverted_cdf") for share in (1, 99)]
    wanted = [shares.min(), shares.max(), shares.mean(), shares.std(), *percentiles]
    np.testing.assert_allclose(intensity_statistics(pixels), wanted, rtol=1e-5, atol=1e-6)


def picture(pixels: np.ndarray, high: float) -> Picture:
    facts = ImageFacts(format="PNG", bits=8, mode="L")
    return Picture(pixels=pixels, low=0, high=high, spacing_mm=None, orientation=None, facts=facts)


def test_the_nominal_range_of_twelve_bits_is_spread_over_sixteen() -> None:
    pixels = np.array([[0, 4095], [1024, 2048]], np.uint16)
    fitted = fit_image(picture(pixels, 4095), height=2, width=2, channels=3, fit="stretch")
    assert fitted.shape == (3, 2, 2)
    np.testing.assert_array_equal(fitted[2], np.rint(pixels / 4095 * 65535))


def test_colour_becomes_luma_where_one_channel_is_wanted() -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[..., 1] = 200
    np.testing.assert_array_equal(fit_image(picture(pixels, 255), height=8, width=8, channels=1, fit="pad"), np.full((1, 8, 8), 117))


def test_large_films_are_kept_as_a_prediction_sees_them(tmp_path: Path) -> None:
    """What is judged is what is served: the cache and `prepare` decode at the same resolution, and not at the whole one."""
    random = np.random.default_rng(0)
    for label in ("a", "b"):
        (tmp_path / "films" / label).mkdir(parents=True)
        for number in range(2):
            coarse = random.integers(0, 256, (90, 70), dtype=np.uint8)
            Image.fromarray(coarse).resize((701, 905)).save(tmp_path / "films" / label / f"{number}.jpg")
    data, shape = Data(folder=tmp_path / "films"), Input(height=32, width=40, channels=1)
    index = index_folder(data, workers=1)
    built = build_cache(data, index, shape, folder=tmp_path / "kept", workers=1)
    model = Model(
        network="none",
        classes=["a", "b"],
        positive=None,
        channels=1,
        height=32,
        width=40,
        weights_total=0,
        weights_trainable=0,
        weights_source="none",
        weights_source_sha256=None,
        members=[],
    )
    whole = [fit_image(read_row_pixels(data, index, row), height=32, width=40, channels=1, fit="stretch") for row in range(4)]
    served = [prepare(data.folder / path, model) for path in index["path"]]
    np.testing.assert_array_equal(built.images, served)
    assert (built.images != whole).any()
    np.testing.assert_array_equal(built.statistics, [intensity_statistics(pixels) for pixels in served])
