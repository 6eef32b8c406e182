"""Volumes: as nibabel reads them, back into the file they came from bit by bit, and masks with the labels that are stored."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from nibabel.affines import apply_affine
from nibabel.orientations import aff2axcodes
from PIL import Image as Pillow

from geometries import affines, saved
from tabib.errors import ImageError
from tabib.images import (
    MAX_VOXELS,
    ImageFacts,
    Volume,
    affine_of_resize,
    cut,
    encode_label_map,
    encode_nifti,
    nifti_pieces,
    nifti_pieces_like,
    read_image,
    read_mask,
    read_volume,
    spacing_of,
)

RANDOM = np.random.default_rng(41)
TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
SIDES = (5, 4, 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("volumes")


@settings(max_examples=60)
@given(affine=affines(), sform=st.integers(0, 4), qform=st.integers(0, 4), kind=st.sampled_from([nibabel.Nifti1Image, nibabel.Nifti2Image]))
def test_every_voxel_keeps_its_value_and_its_place(folder, affine, sform, qform, kind):
    stored = np.arange(60, dtype=np.int16).reshape(SIDES)
    path = saved(folder, stored, affine, kind=kind, sform=sform, qform=qform)
    theirs = nibabel.load(path)
    volume = read_volume(path)
    assert np.sort(volume.voxels, axis=None).tolist() == list(range(60))
    for slice_ in range(SIDES[2]):
        image = read_image(path.with_name(f"{path.name}[{slice_}]"))
        np.testing.assert_array_equal(volume.voxels[slice_], image.pixels - 32768.0, "slices lie as read_image shows them")
    if not sform and not qform:
        assert volume.affine is None
        np.testing.assert_array_equal(volume.voxels, np.moveaxis(stored, 2, 0))
        assert volume.spacing_mm == pytest.approx(np.array(theirs.header.get_zooms())[[2, 0, 1]])
        return
    places = np.array(list(np.ndindex(volume.voxels.shape)))
    ours = apply_affine(TO_LPS @ volume.affine, places)
    found = np.rint(apply_affine(np.linalg.inv(theirs.affine), ours)).astype(int)
    np.testing.assert_allclose(apply_affine(theirs.affine, found), ours, atol=1e-3)
    np.testing.assert_array_equal(theirs.get_fdata()[tuple(found.T)], volume.voxels[tuple(places.T)])
    assert np.prod(volume.spacing_mm) == pytest.approx(abs(np.linalg.det(theirs.affine)), rel=1e-6)
    assert sorted(volume.spacing_mm) == pytest.approx(sorted(theirs.header.get_zooms()), rel=1e-4)


@settings(max_examples=60)
@given(
    affine=affines(),
    codes=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    kind=st.sampled_from([nibabel.Nifti1Image, nibabel.Nifti2Image]),
    big=st.booleans(),
    label=st.sampled_from([np.uint8, np.uint16, np.uint32]),
)
def test_a_mask_comes_back_on_its_source_bit_by_bit(folder, affine, codes, kind, big, label):
    stored = RANDOM.integers(0, 7, SIDES).astype(np.int16)
    path = saved(folder, stored, affine, kind=kind, sform=codes[0], qform=codes[1])
    if big:
        image = nibabel.load(path)
        kind(np.asarray(image.dataobj), None, image.header.as_byteswapped(">")).to_filename(path)
    labels = read_volume(path).voxels.astype(label)
    written = folder / "mask.nii.gz"
    written.write_bytes(b"".join(nifti_pieces_like(labels, path)))
    theirs, source = nibabel.load(written), nibabel.load(path)
    np.testing.assert_array_equal(theirs.affine, source.affine)
    for field in ("sform_code", "qform_code", "pixdim", "srow_x", "srow_y", "srow_z", "quatern_b", "qoffset_x", "xyzt_units"):
        np.testing.assert_array_equal(theirs.header[field], source.header[field], field)
    assert theirs.header.endianness == source.header.endianness
    assert theirs.get_data_dtype().newbyteorder("=") == np.dtype(label)
    np.testing.assert_array_equal(np.asanyarray(theirs.dataobj), stored, "the mask lies on its source")
    np.testing.assert_array_equal(read_mask(written).voxels, labels)


@settings(max_examples=60)
@given(affine=affines(), start=st.tuples(*[st.integers(-4, 7)] * 3), shape=st.tuples(*[st.integers(1, 8)] * 3))
def test_a_cut_keeps_every_voxel_in_its_place(affine, start, shape):
    voxels = np.arange(1, 61, dtype=np.int16).reshape(SIDES)
    volume = Volume(voxels, affine, spacing_of(affine), ImageFacts(format="NIfTI", bits=16, mode="int16"))
    box = cut(volume, start, shape, fill=-1)
    for place in np.ndindex(shape):
        x, y, z = (int(edge) for edge in np.add(place, start))
        inside = all(0 <= edge < side for edge, side in zip((x, y, z), SIDES, strict=True))
        assert box.voxels[place] == (voxels[x, y, z] if inside else -1)
        np.testing.assert_allclose(apply_affine(box.affine, place), apply_affine(affine, (x, y, z)), atol=1e-9)
    back = cut(box, (-start[0], -start[1], -start[2]), SIDES)
    np.testing.assert_allclose(back.affine, affine, atol=1e-9)
    kept = np.isin(back.voxels, box.voxels[box.voxels > 0]) & (back.voxels > 0)
    np.testing.assert_array_equal(back.voxels[kept], voxels[kept])
    assert kept.sum() == (box.voxels > 0).sum()


@settings(max_examples=40)
@given(affine=affines(), before=st.tuples(*[st.integers(1, 50)] * 3), after=st.tuples(*[st.integers(1, 50)] * 3))
def test_resizing_moves_no_edge(affine, before, after):
    resized = affine_of_resize(affine, before, after)
    for edge in (np.zeros(3), np.ones(3)):
        corners = [apply_affine(one, edge * sides - 0.5) for one, sides in ((affine, before), (resized, after))]
        np.testing.assert_allclose(corners[0], corners[1], atol=1e-7)
    assert np.prod(spacing_of(resized)) * np.prod(after) == pytest.approx(np.prod(spacing_of(affine)) * np.prod(before), rel=1e-9)


@settings(max_examples=40)
@given(affine=affines(), stored=arrays(np.uint16, SIDES))
def test_a_volume_of_no_nifti_file_is_written_in_its_place(folder, affine, stored):
    volume = Volume(stored, affine, spacing_of(affine), ImageFacts(format="DICOM", bits=16, mode="MONOCHROME2"))
    (folder / "b.nii.gz").write_bytes(encode_nifti(volume))
    theirs = nibabel.load(folder / "b.nii.gz")
    np.testing.assert_array_equal(theirs.get_fdata(), stored.transpose(2, 1, 0))
    np.testing.assert_allclose(TO_LPS @ theirs.affine, affine[:, [2, 1, 0, 3]], atol=1e-4)
    assert aff2axcodes(theirs.affine)
    assert read_volume(folder / "b.nii.gz").spacing_mm is not None


@pytest.mark.parametrize("affine", [None, np.diag([5.0, 0.5, 0.75, 1])], ids=["nowhere", "placed"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32], ids=lambda dtype: dtype.__name__)
def test_pieces_are_together_what_nibabel_writes(affine, dtype):
    """In gzip as one block of it would be packed: the bytes of a file tell whether it is the same image."""
    stored = RANDOM.integers(0, 200, (60, 50, 40)).astype(dtype)
    pieces = list(nifti_pieces(Volume(stored, affine, (5.0, 0.5, 0.75), ImageFacts(format="DICOM", bits=16, mode="MONOCHROME2"))))
    theirs = nibabel.Nifti1Image(stored.transpose(2, 1, 0), None if affine is None else TO_LPS @ affine[:, [2, 1, 0, 3]])
    theirs.header.set_xyzt_units("mm")
    if affine is None:
        theirs.header.set_zooms((0.75, 0.5, 5.0))
    else:
        theirs.set_sform(TO_LPS @ affine[:, [2, 1, 0, 3]], 1)
        theirs.set_qform(TO_LPS @ affine[:, [2, 1, 0, 3]], 1)
    assert len(pieces) == 62
    assert b"".join(pieces) == gzip.compress(theirs.to_bytes(), 6, mtime=0)


def test_colours_and_unknown_places_are_written_too(tmp_path):
    stored = RANDOM.integers(0, 256, (3, 4, 5, 3), np.uint8)
    facts = ImageFacts(format="TIFF", bits=8, mode="RGB")
    (tmp_path / "c.nii.gz").write_bytes(encode_nifti(Volume(stored, None, (2.0, 0.5, 0.75), facts)))
    volume = read_volume(tmp_path / "c.nii.gz")
    np.testing.assert_array_equal(volume.voxels.transpose(0, 2, 1, 3), stored)
    assert (volume.affine, volume.spacing_mm) == (None, (2.0, 0.75, 0.5)), "without a place the first axis of a file are the rows"


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype"), [(1, -1024, np.int16), (2, 0, np.int16), (3000, 5, np.int32), (0.37, 1.5, np.float32)]
)
def test_values_are_what_was_measured(tmp_path, slope, intercept, dtype):
    stored = RANDOM.integers(0, 4000, (4, 5, 6), np.int16)
    image = nibabel.Nifti1Image(stored, np.eye(4))
    image.header.set_slope_inter(slope, intercept)
    (tmp_path / "a.nii").write_bytes(image.to_bytes())
    with open(tmp_path / "a.nii", "r+b") as file:  # nibabel writes slopes of its own
        file.seek(112)
        file.write(np.array([slope, intercept], "<f4").tobytes())
    volume = read_volume(tmp_path / "a.nii")
    raw = np.fromfile(tmp_path / "a.nii", "<i2", offset=352).reshape((4, 5, 6), order="F")
    np.testing.assert_allclose(np.sort(volume.voxels, axis=None), np.sort(raw * np.float32(slope) + intercept, axis=None), rtol=1e-6)
    assert volume.voxels.dtype == dtype
    assert not volume.voxels.flags.writeable


def test_time_points_are_asked_for_by_number(tmp_path):
    stored = RANDOM.integers(0, 4000, (4, 5, 3, 6), np.int16)
    saved(tmp_path, stored, None)
    with pytest.raises(ImageError, match=r"a.nii.gz: is a NIfTI file of 6 volumes of 4 x 5 x 3 voxels \(4 axes\).*\[0\] to \[5\] behind"):
        read_volume(tmp_path / "a.nii.gz")
    for time in range(6):
        np.testing.assert_array_equal(read_volume(tmp_path / f"a.nii.gz[{time}]").voxels, np.moveaxis(stored[..., time], 2, 0))
    with pytest.raises(ImageError, match="numbered from 0, and has no frame 6"):
        read_volume(tmp_path / "a.nii.gz[6]")


BUNDLED = Path(nibabel.__file__).parent / "tests" / "data"


@pytest.mark.parametrize("name", sorted(path.name for path in BUNDLED.glob("*.nii*") if "dconn" not in path.name))
def test_volumes_that_come_with_nibabel_are_as_it_reads_them(name):
    theirs = nibabel.load(BUNDLED / name)
    values = theirs.get_fdata()
    volume = read_volume(BUNDLED / (name if values.ndim == 3 else f"{name}[1]"))
    values = values if values.ndim == 3 else values[..., 1]
    places = np.array(list(np.ndindex(volume.voxels.shape)))[::37]
    there = apply_affine(np.linalg.inv(theirs.affine) @ TO_LPS @ volume.affine, places)
    np.testing.assert_allclose(there, np.rint(there), atol=1e-6)
    np.testing.assert_allclose(volume.voxels[tuple(places.T)], values[tuple(np.rint(there).astype(int).T)], rtol=1e-6)


def broken(folder, **fields: object):
    """A good file with fields of its header changed."""
    image = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.diag([1.5, 2, 3, 1]))
    header = image.header.copy()
    for name, value in fields.items():
        header[name] = value
    data = image.to_bytes()
    (folder / "broken.nii").write_bytes(header.binaryblock + data[348:])
    return folder / "broken.nii"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"pixdim": [1, np.nan, 2, 3, 0, 0, 0, 0]},
            r"4 x 5 x 6 voxels with a spacing of nan, 2, 3 mm, where positive numbers were expected",
        ),
        ({"pixdim": [1, 1.5, 2, 0, 0, 0, 0, 0]}, r"spacing of 1.5, 2, 0 mm"),
        ({"pixdim": [1, 1.5, -2, 3, 0, 0, 0, 0], "sform_code": 0}, r"spacing of 1.5, -2, 3 mm, where positive numbers were expected"),
        ({"pixdim": [1, 1.5, -2, 3, 0, 0, 0, 0], "sform_code": 0, "qform_code": 1}, r"spacing of 1.5, -2, 3 mm, where positive"),
        ({"srow_x": [np.nan, 0, 0, 0]}, r"values that are no numbers"),
        ({"srow_x": [0, 0, 0, 0]}, r"singular affine matrix: its axes, of 3, 2, 0 mm|singular affine matrix"),
        ({"srow_x": [1.5, 1.5, 0, 0], "srow_y": [0, 0, 2, 0]}, r"singular affine matrix"),
        ({"dim": [3, 4, 5, 0, 1, 1, 1, 1]}, r"0 x 4 x 5 voxels, so there is nothing to see"),
        ({"dim": [3, 4000, 5000, 60, 1, 1, 1, 1]}, rf"which are 1,200,000,000, and at most {MAX_VOXELS:,} are read"),
    ],
    ids=[
        "nan spacing",
        "no spacing",
        "negative spacing",
        "negative spacing of a quaternion",
        "nan affine",
        "zero axis",
        "two axes alike",
        "no slices",
        "too large",
    ],
)
def test_geometry_that_cannot_be_is_refused(tmp_path, fields, words):
    with pytest.raises(ImageError, match=f"broken.nii: .*(?:{words})"):
        read_volume(broken(tmp_path, **fields))


def test_a_sign_of_the_spacing_means_nothing_beside_a_matrix(tmp_path):
    volume = read_volume(broken(tmp_path, pixdim=[1, -1.5, 2, 3, 0, 0, 0, 0]))
    assert volume.spacing_mm == (3, 2, 1.5)


def test_mirrored_axes_are_kept(tmp_path):
    affine = np.diag([-1.0, 1, 1, 1])
    volume = read_volume(saved(tmp_path, np.arange(60, dtype=np.uint8).reshape(SIDES), affine))
    assert np.linalg.det(nibabel.load(tmp_path / "a.nii.gz").affine) < 0
    canonical = nibabel.as_closest_canonical(nibabel.load(tmp_path / "a.nii.gz"))
    film = np.moveaxis(canonical.get_fdata()[::-1, ::-1], 2, 0).swapaxes(1, 2)  # to the left, to the back
    np.testing.assert_array_equal(volume.voxels, film)


def test_one_slice_needs_no_thickness(tmp_path):
    image = nibabel.Nifti1Image(np.ones((4, 5), np.uint8), None)
    image.header.set_zooms((0.5, 0.75))
    (tmp_path / "a.nii").write_bytes(image.to_bytes())
    volume = read_volume(tmp_path / "a.nii")
    assert volume.voxels.shape == (1, 4, 5)
    assert volume.spacing_mm[1:] == (0.5, 0.75)


def test_pages_are_slices(tmp_path):
    stack = RANDOM.integers(0, 60000, (4, 9, 7), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", metadata=None)
    volume = read_volume(tmp_path / "a.tif")
    np.testing.assert_array_equal(volume.voxels, stack)
    assert (volume.affine, volume.spacing_mm) == (None, None)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.tif[2]").voxels, stack[2:3])
    with tifffile.TiffWriter(tmp_path / "b.tif") as file:
        for page in (stack[0], stack[0, :5]):
            file.write(page, photometric="minisblack", metadata=None)
    with pytest.raises(
        ImageError, match=r"b.tif: holds pictures of different sizes or types, .* of 7 x 9 pixels first and .* of 7 x 5 as number 1"
    ):
        read_volume(tmp_path / "b.tif")


def test_a_picture_is_a_volume_of_one_slice(tmp_path):
    colours = RANDOM.integers(0, 256, (6, 5, 3), np.uint8)
    Pillow.fromarray(colours).save(tmp_path / "a.png")
    volume = read_volume(tmp_path / "a.png")
    np.testing.assert_array_equal(volume.voxels, colours[None])
    assert volume.facts.format == "PNG"


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i2", "i4", "f4", "f8", "i8"])
@pytest.mark.parametrize("name", ["a.nii", "a.tif"])
def test_labels_come_back_as_they_are_stored(tmp_path, name, dtype):
    labels = RANDOM.integers(0, 100, (3, 5, 4)).astype(dtype)
    if name == "a.nii":
        (tmp_path / name).write_bytes(nibabel.Nifti1Image(np.moveaxis(labels, 0, 2), None, dtype=labels.dtype).to_bytes())
    else:
        tifffile.imwrite(tmp_path / name, labels, photometric="minisblack", metadata=None, compression="zlib")
    mask = read_mask(tmp_path / name)
    np.testing.assert_array_equal(mask.voxels, labels)
    assert mask.voxels.dtype.kind == "u"
    assert mask.voxels.itemsize == (labels.itemsize if dtype[0] != "f" and dtype != "i8" else 1)


def test_labels_of_pictures_are_places_in_a_palette_or_values(tmp_path):
    labels = RANDOM.integers(0, 16, (6, 5), np.uint8)
    picture = Pillow.fromarray(labels).convert("P")
    picture.putdata(labels.ravel().tolist())
    picture.putpalette([7, 200, 30] * 8 + [90, 9, 250] * 248)
    for name in ("p.png", "p.bmp", "p.tif"):
        picture.save(tmp_path / name)
        np.testing.assert_array_equal(read_mask(tmp_path / name).voxels[0], labels, name)
    Pillow.fromarray(labels > 7).save(tmp_path / "one.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "one.png").voxels[0], labels > 7)
    assert read_mask(tmp_path / "one.png").voxels.dtype == np.uint8
    Pillow.fromarray(np.stack([labels] * 3, -1)).save(tmp_path / "alike.png")
    Pillow.fromarray(np.stack([labels, np.full_like(labels, 255)], -1)).save(tmp_path / "opaque.png")
    for name in ("alike.png", "opaque.png"):
        np.testing.assert_array_equal(read_mask(tmp_path / name).voxels[0], labels, name)


@pytest.mark.parametrize("highest", [3, 255, 256, 65535])
def test_label_maps_come_back(tmp_path, highest):
    labels = np.array([[0, 1], [2, highest]], np.uint32)
    (tmp_path / "a.png").write_bytes(encode_label_map(labels))
    mask = read_mask(tmp_path / "a.png").voxels[0]
    np.testing.assert_array_equal(mask, labels)
    assert mask.dtype == (np.uint8 if highest < 256 else np.uint16)
    np.testing.assert_array_equal(np.asarray(Pillow.open(tmp_path / "a.png")), labels)


def test_label_maps_hold_sixteen_bits():
    with pytest.raises(ValueError, match="from 0 to 65536 do not fit"):
        encode_label_map(np.array([[0, 65536]]))


def test_masks_that_hold_no_labels_are_refused(tmp_path):
    def refused(name: str, words: str) -> None:
        with pytest.raises(ImageError, match=f"{name}: .*{words}"):
            read_mask(tmp_path / name)

    Pillow.fromarray(RANDOM.integers(0, 256, (6, 5, 3), np.uint8)).save(tmp_path / "rgb.png")
    refused("rgb.png", "three channels that differ")
    Pillow.fromarray(np.zeros((6, 5), np.uint8)).save(tmp_path / "a.jpg")
    refused("a.jpg", "saved as JPEG")
    for name, value, words in (
        ("half", 0.5, "the value 0.5, and labels are whole numbers"),
        ("nan", np.nan, "the value nan"),
        ("minus", -1.0, "the label -1"),
        ("large", 2.0**33, "from 0 to 4,294,967,295"),
    ):
        stored = np.zeros((3, 4, 2))
        stored[1, 2, 1] = value
        (tmp_path / f"{name}.nii").write_bytes(nibabel.Nifti1Image(stored, None).to_bytes())
        refused(f"{name}.nii", words)


def test_a_mask_of_another_shape_is_not_written(tmp_path):
    path = saved(tmp_path, np.zeros(SIDES, np.uint8), np.eye(4))
    with pytest.raises(ValueError, match="3 x 5 x 4 voxels is not one"):
        nifti_pieces_like(np.zeros((3, 5, 4), np.uint8), path)


def test_a_volume_cut_short_is_refused(tmp_path):
    path = saved(tmp_path, RANDOM.integers(0, 4000, (9, 9, 9), np.int16), np.eye(4))
    whole = gzip.decompress(path.read_bytes())
    (tmp_path / "short.nii").write_bytes(whole[:-5])
    with pytest.raises(ImageError, match=r"short.nii: is a NIfTI file cut short"):
        read_volume(tmp_path / "short.nii")
