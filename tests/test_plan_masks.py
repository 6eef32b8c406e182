"""Proposed studies of images with masks: slices or blocks, a patch around what is looked for, the widest network in time."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from masked import save_nifti, study
from planted_masks import plant_masks, write_pictures, write_volumes
from tabib.config import Data, Segmentation, SegmentationData, Split
from tabib.dataset import CaseCache, index_folder
from tabib.errors import DataError, StudyError
from tabib.plan import Plan, masks, plan_study, proposal, write_plan
from tabib.plan.masks import WIDTHS, Recipe, dimensions_of, length_of, patch_of, window_of
from tabib.study_file import load_study
from tabib.training import MaskTimes, count_windows, segment_resolve

FLAT = Recipe.of([128, 128])


@pytest.fixture
def _steps_cost_their_width(monkeypatch: pytest.MonkeyPatch) -> None:
    def cost(study: Segmentation) -> MaskTimes:
        assert isinstance(study.model.filters, list)
        halved = 0.5 if study.training.precision == "bf16" else 1.0
        step = 0.01 * study.model.filters[0] * halved * (100 if study.input.dimensions == 3 else 1)
        return MaskTimes(step, step / 50)

    for room in (masks, segment_resolve):
        monkeypatch.setattr(room, "time_masks", cost)


def planned(folder: Path, *, minutes: float, labels: dict[str, int] | None = None) -> Plan[Segmentation]:
    data = SegmentationData(folder=folder, labels=dict(labels or {"disc": 1, "square": 2}), group=r"(p\d+)")
    return plan_study(data, name="planted", minutes=minutes, cache_folder=folder.parent / "cache")


def values(plan: Plan[Any]) -> dict[str, Any]:
    return {choice.field: choice.value for choice in plan.choices}


def images(slices: int, between: float | None, side: float | None) -> pl.DataFrame:
    columns = {"slices": [slices] * 3, "spacing_slice_mm": [between] * 3, "spacing_row_mm": [side] * 3, "spacing_column_mm": [side] * 3}
    return pl.DataFrame(columns, schema={name: pl.Int32 if name == "slices" else pl.Float64 for name in columns})


@pytest.mark.parametrize(
    ("slices", "between", "side", "wanted", "why"),
    [
        (1, None, None, 2, "pictures"),
        (10, 10.0, 1.5, 2, "6.7 times"),
        (60, 5.0, 1.5, 2, "3.3 times"),
        (60, 1.5, 1.5, 3, "60 slices"),
        (8, 1.0, 1.0, 2, "8 slices"),
        (60, None, None, 3, "60 slices"),
    ],
)
def test_slices_or_blocks(slices: int, between: float | None, side: float | None, wanted: int, why: str) -> None:
    dimensions, reason = dimensions_of(images(slices, between, side))
    assert dimensions == wanted
    assert why in reason


def cases(*shown: np.ndarray) -> CaseCache:
    voxels = np.concatenate([mask.ravel() for mask in shown])
    starts = np.concatenate([[0], np.cumsum([mask.size for mask in shown])])
    shapes = [(mask.shape[0], mask.shape[1], mask.shape[2]) for mask in shown]
    return CaseCache("", np.zeros(len(voxels), np.float16), voxels, 1, False, {row: row for row in range(len(shown))}, shapes, starts)


def test_the_patch_covers_what_is_looked_for_and_its_surroundings() -> None:
    mask = np.zeros((3, 200, 300), np.uint8)
    mask[1, 50:110, 60:160] = 1  # 60 rows and 100 columns
    mask[2, 0:5, 0:5] = 2
    patch, why = patch_of(cases(mask, mask), [0, 1], 2)
    assert patch == [96, 160], "1.4 times 60 and 100, in steps of 32"
    assert "60 x 100" in why
    assert patch_of(cases(mask), [0], 3)[0] == [32, 128, 128], "blocks are at most 128 wide, and at least 32 deep"
    small = np.ones((1, 40, 50), np.uint8)
    assert patch_of(cases(small), [0], 2)[0] == [64, 64], "the image, and no less than 64"


def test_masks_that_show_nothing_are_refused() -> None:
    with pytest.raises(DataError, match=r"Check data\.labels"):
        patch_of(cases(np.zeros((2, 64, 64), np.uint8)), [0], 2)


@pytest.mark.parametrize(
    ("patch", "batch", "wanted"),
    [((128, 128), 16, 19_531), ((64, 64), 16, 20_000), ((256, 256), 8, 5_000), ((48, 64, 64), 8, 1627), ((64, 128, 128), 2, 500)],
)
def test_larger_patches_are_fewer(patch: tuple[int, ...], batch: int, wanted: int) -> None:
    recipe = Recipe.of(patch)
    assert (recipe.dimensions, recipe.batch, recipe.wanted) == (len(patch), batch, wanted)


@given(
    step=st.floats(1e-3, 100),
    window=st.floats(1e-4, 10),
    windows=st.integers(1, 5000),
    seconds=st.floats(60, 1e5),
)
def test_the_length_keeps_the_time_where_any_does(step: float, window: float, windows: int, seconds: float) -> None:
    epochs, patches = length_of(MaskTimes(step, window), windows, seconds, FLAT)
    assert 10 <= epochs <= 60
    assert patches % FLAT.batch == 0
    assert patches >= FLAT.batch
    taken = epochs * (windows * window + patches / FLAT.batch * step)
    assert taken <= seconds * (1 + 1e-9) or patches == FLAT.batch
    assert epochs * patches <= FLAT.most or patches == FLAT.batch


@pytest.mark.usefixtures("_steps_cost_their_width")
def test_more_minutes_make_a_wider_network(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures")
    found = [planned(tmp_path / "pictures", minutes=minutes) for minutes in (1, 4, 8, 60)]
    widths = [values(plan)["model.filters"][0] for plan in found]
    assert widths == sorted(widths)
    assert widths[0] == WIDTHS[0]
    assert widths[-1] == WIDTHS[-1]
    seen = [values(plan)["training.epochs"] * values(plan)["training.patches"] for plan in found]
    assert seen[-1] >= FLAT.wanted > seen[0]
    assert "would be better" in next(choice.reason for choice in found[0].choices if choice.field == "training.epochs")
    assert values(found[-1])["training.precision"] == "bf16", "twice as fast here"


@pytest.mark.usefixtures("_steps_cost_their_width")
def test_the_plan_is_a_study_that_is_read_back(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures")
    data = SegmentationData(folder=tmp_path / "pictures", labels={"disc": 1, "square": 2}, group=r"(p\d+)", kind="tissue")
    plan = plan_study(data, name="planted", minutes=8, split=Split(train=0.5, validation=0.3, test=0.2), cache_folder=tmp_path / "cache")
    write_plan(plan, tmp_path / "study.yaml")
    read = load_study(tmp_path / "study.yaml")
    assert read == plan.study
    assert isinstance(read, Segmentation)
    assert read.split.train == 0.5
    assert read.augment.flip_vertical, "the kind of image decides what is changed at random"
    assert read.augment.stain == 0, "but for colours, which grey images have not"
    assert "is looked for spans" in (tmp_path / "study.yaml").read_text()


@pytest.mark.usefixtures("_steps_cost_their_width")
def test_blocks_that_take_too_long_become_slices(tmp_path: Path) -> None:
    write_volumes(tmp_path / "volumes", depth=40)
    nominal = SegmentationData(folder=tmp_path / "volumes", labels={"disc": 1, "square": 2}, group=r"(p\d+)")
    # Slices are four times as far apart as pixels: flat. With a spacing that is near, blocks come first.
    assert values(plan_study(nominal, name="flat", minutes=8, cache_folder=tmp_path / "cache"))["input.dimensions"] == 2
    planted = plant_masks(tmp_path, volumes=True)
    near = planted.index.with_columns(spacing_slice_mm=pl.col("spacing_row_mm"))
    assert [dimensions for dimensions, _ in masks.ways(near)] == [3, 2]


def test_a_plan_of_masks_says_what_it_lacks(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures")
    data = SegmentationData(folder=tmp_path / "pictures", labels={"disc": 1, "square": 2})
    with pytest.raises(StudyError, match="cache_folder"):
        plan_study(data, name="planted")
    with pytest.raises(StudyError, match="images with masks have none"):
        plan_study(data, name="planted", positive="disc", cache_folder=tmp_path / "cache")


def test_hearts_are_turned_as_scanners_turn_them() -> None:
    asked = masks.question(SegmentationData(folder=Path("acdc"), layout="acdc", labels={"lv": 3}), None)
    assert {choice.field: choice.value for choice in asked} == {"task": "segmentation", "data.kind": "heart_mr"}
    said = masks.question(SegmentationData(folder=Path("acdc"), layout="acdc", labels={"lv": 3}, kind="ct_slice"), None)
    assert [choice.field for choice in said] == ["task"], "what is said is kept"


def test_every_layout_has_words() -> None:
    layouts = {name for data in (Data, SegmentationData) for name in get_args(data.model_fields["layout"].annotation)}
    assert layouts == proposal.LAYOUTS.keys()


def test_windows_are_counted_as_they_are_predicted() -> None:
    assert count_windows((10, 256, 216), (160, 160)) == 10 * 3 * 2
    assert count_windows((1, 100, 100), (128, 128)) == 1
    assert count_windows((32, 64, 64), (16, 64, 64)) == 3


@pytest.mark.parametrize(("lowest", "wanted"), [(-1024, True), (0, False)], ids=["ct", "mr"])
def test_the_window_of_ct_is_that_of_what_is_drawn(tmp_path: Path, lowest: int, wanted: bool) -> None:
    draws = np.random.default_rng(0)
    for number in range(3):
        voxels, mask = np.full((4, 24, 24), lowest, np.int16), np.zeros((4, 24, 24), np.uint8)
        mask[1:3, 4:16, 4:16] = 1
        voxels[mask > 0] = draws.uniform(-20, 180, np.count_nonzero(mask)).astype(np.int16)
        voxels[0, 0, 0] = 3000  # a bone, which is not drawn
        save_nifti(tmp_path / f"images/{number}.nii.gz", voxels)
        save_nifti(tmp_path / f"masks/{number}.nii.gz", mask)
    data = study(tmp_path).data
    choices = window_of(data, index_folder(data, workers=1))
    assert [choice.field for choice in choices] == (["input.intensity", "input.window"] if wanted else [])
    if wanted:
        low, high = choices[1].value
        assert (low, high) == pytest.approx((-19, 179), abs=2)
        assert "CT" in choices[0].reason
        Segmentation.model_validate({**study(tmp_path).model_dump(), "input": {"intensity": choices[0].value, "window": [low, high]}})
