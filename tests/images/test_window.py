"""What DICOM says of windows, rescaling and tables, against the formulas of the standard and against pydicom's."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

from images.made import dicom
from tabib.dataset.pixels import fit_image
from tabib.images import Image, glance, read_image_bytes, spread, to_eight_bit

RANDOM = np.random.default_rng(23)
HOUNSFIELD = {"RescaleSlope": 1, "RescaleIntercept": -1024, "WindowCenter": 40, "WindowWidth": 400}


def stored(bits: int = 12, *, signed: bool = False) -> np.ndarray:
    low = -(2 ** (bits - 1)) if signed else 0
    dtype = f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}"
    return np.concatenate([[low, low + 2**bits - 1], RANDOM.integers(low, low + 2**bits, 62)]).reshape(8, 8).astype(dtype)


def shown(image: Image) -> np.ndarray:
    """What a screen shows, 0 to 1."""
    return spread(image.pixels, image.low, image.high) / np.iinfo(image.pixels.dtype).max


def by_pydicom(data: bytes) -> np.ndarray:
    """What pydicom shows, 0 to 1: its own result brought from the range it documents, white high."""
    file = pydicom.dcmread(io.BytesIO(data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        measured = apply_modality_lut(file.pixel_array, file)
        result = apply_voi_lut(measured, file).astype(float)
    if "VOILUTSequence" in file:
        low, high = 0, 2 ** file.VOILUTSequence[0].LUTDescriptor[2] - 1
    elif "ModalityLUTSequence" in file:
        low, high = 0, 2 ** file.ModalityLUTSequence[0].LUTDescriptor[2] - 1
    else:
        low = -(2 ** (file.BitsStored - 1)) if file.PixelRepresentation else 0
        low, high = (edge * file.get("RescaleSlope", 1) + file.get("RescaleIntercept", 0) for edge in (low, low + 2**file.BitsStored - 1))
    shares = (result - min(low, high)) / abs(high - low)
    return 1 - shares if file.PhotometricInterpretation == "MONOCHROME1" else shares


def test_a_ct_window_in_hounsfield_units():
    values = np.array([[0, 863, 864, 1064, 1263, 1264, 4095]], np.uint16)  # -1024, -161, -160, 40, 239, 240, 3071 HU
    image = read_image_bytes(dicom(values, bits=12, values=HOUNSFIELD), "a.dcm")
    np.testing.assert_array_equal(image.pixels, values)
    assert (image.low, image.high) == (864, 1263)  # PS3.3 C.11.2.1.2.1: -160 is the last black, 239 the first white
    assert image.rescale == (1, -1024)
    np.testing.assert_allclose(shown(image), [[0, 0, 0, 200 / 399, 1, 1, 1]], atol=1e-5)
    assert to_eight_bit(image).tolist() == [[0, 0, 0, 128, 255, 255, 255]]


def test_a_ct_without_a_window_is_shown_from_air_to_metal():
    values = np.array([[-1024, 1023, 3071, 32767]], np.int16)
    header = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": 0}
    image = read_image_bytes(dicom(values, bits=16, values=header), "a.dcm")
    np.testing.assert_array_equal(image.pixels, values.astype(int) + 32768)
    np.testing.assert_allclose(shown(image), [[0, 2047 / 4095, 1, 1]], atol=1e-5)
    other = read_image_bytes(dicom(values, bits=16, values=header | {"Modality": "MR"}), "a.dcm")
    assert (other.low, other.high) == (0, 65535)


def test_a_film_with_a_window_and_dark_bones():
    values = np.array([[0, 1000, 2048, 3000, 4095]], np.uint16)
    window = {"WindowCenter": 2000.5, "WindowWidth": 2001}
    image = read_image_bytes(dicom(values, bits=12, colour="MONOCHROME1", values=window), "a.dcm")
    np.testing.assert_array_equal(image.pixels, 4095 - values)
    assert (image.low, image.high) == (1095, 3095)
    np.testing.assert_allclose(shown(image), [[1, 1, 0.476, 0, 0]], atol=1e-4)


@settings(max_examples=150, deadline=None)
@given(
    bits=st.sampled_from([6, 8, 12, 16]),
    signed=st.booleans(),
    colour=st.sampled_from(["MONOCHROME1", "MONOCHROME2"]),
    slope=st.sampled_from([1, 0.5, 2.25, -1, -0.5]),
    intercept=st.sampled_from([0, -1024, 200]),
    centre=st.floats(0.1, 0.9),
    width=st.floats(0.1, 1.5),
    function=st.sampled_from([None, "LINEAR", "LINEAR_EXACT", "SIGMOID"]),
)
def test_windows_show_what_pydicom_shows(bits, signed, colour, slope, intercept, centre, width, function):
    values = stored(bits, signed=signed)
    ends = sorted(float(edge) * slope + intercept for edge in (values.min(), values.max()))
    span = ends[1] - ends[0]
    header = {"RescaleSlope": slope, "RescaleIntercept": intercept}
    header |= {"WindowCenter": round(ends[0] + centre * span, 2), "WindowWidth": round(max(2.5, width * span), 2)}
    header |= {"VOILUTFunction": function} if function else {}
    data = dicom(values, bits=bits, colour=colour, values=header)
    image = read_image_bytes(data, "a.dcm")
    expected = by_pydicom(data)
    if slope < 0:  # pydicom turns the result over with its range; a window never does (PS3.3 C.11.2.1.2)
        expected = 1 - expected
    np.testing.assert_allclose(shown(image), expected, atol=1.01 / np.iinfo(image.pixels.dtype).max)
    if function != "SIGMOID":
        file = pydicom.dcmread(io.BytesIO(data))
        assert image.rescale is not None
        measured = image.pixels * image.rescale[0] + image.rescale[1]
        np.testing.assert_allclose(measured, apply_modality_lut(file.pixel_array, file), atol=1e-6)


def table(entries: np.ndarray, first: int, bits: int, *, order: str = "<", signed: bool = False) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if signed else "US", [len(entries) % 65536, first, bits])
    item.add_new("LUTData", "OW", entries.astype(f"{order}u2").tobytes())
    return item


GAMMA = np.rint((np.arange(4096) / 4095) ** 0.5 * 1023)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("colour", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("kind", ["VOI", "modality", "both", "modality and window"])
def test_tables_are_applied(syntax, colour, kind):
    values, order = stored(12), ">" if syntax == ExplicitVRBigEndian else "<"
    header: dict[str, object] = {}
    if kind != "VOI":
        header["ModalityLUTSequence"] = [table(np.arange(4096) ** 2 // 4096, 0, 16, order=order)]
    if kind in ("VOI", "both"):
        header["VOILUTSequence"] = [table(GAMMA, 0, 10, order=order)]
    if kind == "modality and window":
        header |= {"WindowCenter": 1500, "WindowWidth": 2000}
    data = dicom(values, bits=12, colour=colour, syntax=syntax, values=header)
    image = read_image_bytes(data, "a.dcm")
    assert (image.low, image.high, image.rescale) == (0, 65535, None)
    np.testing.assert_allclose(shown(image), by_pydicom(data), atol=1.01 / 65535)


def test_a_table_for_hounsfield_units_below_zero():
    values = np.array([[0, 24, 1024, 2000, 4095]], np.uint16)
    entries = np.linspace(0, 65535, 1000)
    for signed in (True, False):  # many files store the negative first value in an unsigned field
        header = {
            "RescaleSlope": 1,
            "RescaleIntercept": -1024,
            "VOILUTSequence": [table(entries, -1000 % 65536 - 65536 * signed, 16, signed=signed)],
        }
        image = read_image_bytes(dicom(values, bits=12, values=header), "a.dcm")
        np.testing.assert_allclose(image.pixels, [[0, 0, 65535, 65535, 65535]], atol=66)


def test_a_table_of_an_eight_bit_picture_gives_eight_bits():
    values = stored(8)
    image = read_image_bytes(dicom(values, bits=8, values={"VOILUTSequence": [table(65535 - np.arange(256) * 257, 0, 16)]}), "a")
    np.testing.assert_array_equal(image.pixels, 255 - values)
    assert image.pixels.dtype == np.uint8


def test_a_table_comes_before_a_window_and_the_first_of_several_counts():
    values = stored(12)
    both = {"VOILUTSequence": [table(GAMMA, 0, 10), table(GAMMA[::-1], 0, 10)], "WindowCenter": 9, "WindowWidth": 9}
    np.testing.assert_allclose(read_image_bytes(dicom(values, bits=12, values=both), "a").pixels / 65535, GAMMA[values] / 1023, atol=1e-5)
    two = {"WindowCenter": [2000.5, 1], "WindowWidth": [2001, 1]}
    image = read_image_bytes(dicom(values, bits=12, values=two), "a")
    assert (image.low, image.high) == (1000, 3000)


@pytest.mark.parametrize(
    "window",
    [
        {"WindowCenter": 40, "WindowWidth": 1},
        {"WindowCenter": 40, "WindowWidth": 0, "VOILUTFunction": "LINEAR_EXACT"},
        {"WindowCenter": 40, "WindowWidth": -5},
        {"WindowCenter": 40},
        {"WindowCenter": 40, "WindowWidth": ""},
        {"WindowCenter": 40000, "WindowWidth": 100},
        {"WindowCenter": -40000, "WindowWidth": 100},
    ],
)
def test_a_senseless_window_is_no_window(window):
    values = stored(12)
    image = read_image_bytes(dicom(values, bits=12, values=window), "a.dcm")
    assert (image.low, image.high, image.rescale) == (0, 4095, None)
    np.testing.assert_array_equal(image.pixels, values)


def test_a_broken_table_is_refused():
    from tabib.errors import ImageError

    item = table(GAMMA[:100], 0, 10)
    item.LUTDescriptor = [4096, 0, 10]
    with pytest.raises(ImageError, match="table of 100 values that says 4096 of 10 bits"):
        read_image_bytes(dicom(stored(12), bits=12, values={"VOILUTSequence": [item]}), "a.dcm")


def test_a_window_of_one_frame():
    """PS3.3 C.7.6.16: in an enhanced file each frame has its own window, spacing and place."""
    values = np.stack([stored(12), stored(12)])
    file = pydicom.dcmread(io.BytesIO(dicom(values[0], bits=12)))
    file.NumberOfFrames, file.PixelData = 2, values.tobytes()

    def group(**parts: dict) -> Dataset:
        whole = Dataset()
        for name, content in parts.items():
            item = Dataset()
            for key, value in content.items():
                setattr(item, key, value)
            setattr(whole, name, [item])
        return whole

    file.SharedFunctionalGroupsSequence = [
        group(
            PixelMeasuresSequence={"PixelSpacing": [0.5, 0.25]},
            PixelValueTransformationSequence={"RescaleSlope": 2, "RescaleIntercept": -10},
        )
    ]
    file.PerFrameFunctionalGroupsSequence = [
        group(
            FrameVOILUTSequence={"WindowCenter": centre, "WindowWidth": 1001},
            PlaneOrientationSequence={"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
        )
        for centre in (1000.5, 3000.5)
    ]
    stream = io.BytesIO()
    file.save_as(stream)
    for number, centre in enumerate((1000, 3000)):
        image = read_image_bytes(stream.getvalue(), "a.dcm", number)
        np.testing.assert_array_equal(image.pixels, values[number])
        assert (image.low, image.high) == ((centre - 500 + 10) / 2, (centre + 500 + 10) / 2)
        assert image.spacing_mm == (0.5, 0.25)
        assert image.orientation == "1\\0\\0\\0\\1\\0"
        assert image.rescale == (2, -10)


def test_a_glance_and_a_network_look_through_the_window():
    values = np.zeros((8, 8), np.uint16)
    values[:, 4:], values[0, 0] = 1263, 4095  # black, white, and a piece of metal
    image = read_image_bytes(dicom(values, bits=12, values=HOUNSFIELD), "a.dcm")
    look = glance(image, "00", 0)
    assert look["mean"] == pytest.approx(33 / 64, abs=1e-5)
    assert set(fit_image(image, height=8, width=8, channels=1, fit="pad").ravel()) == {0, 65535}
    other = read_image_bytes(dicom(values, bits=12), "a.dcm")
    assert glance(other, "00", 0)["pixels"] == look["pixels"]  # one image, whatever the window


@pytest.mark.parametrize(("bits", "window"), [(6, {}), (8, {"WindowCenter": 100.5, "WindowWidth": 101})])
def test_eight_bits_stay_eight_bits(bits, window):
    """The cache keeps one byte a pixel where no image has more than 8 bits."""
    values = stored(bits)
    image = read_image_bytes(dicom(values, bits=bits, values=window), "a.dcm")
    fitted = fit_image(image, height=8, width=8, channels=1, fit="stretch")
    low, high = (50, 150) if window else (0, 63)
    assert fitted.dtype == np.uint8
    np.testing.assert_array_equal(fitted[0], np.rint(((values.astype(float) - low) / (high - low)).clip(0, 1) * 255))
