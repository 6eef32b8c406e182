from __future__ import annotations

import numpy as np
import pytest
from pydicom.pixels.processing import convert_color_space
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from images.made import dicom
from tabib.errors import ImageError
from tabib.images import read_image_bytes

RANDOM = np.random.default_rng(7)
SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)


def stored(shape: tuple[int, ...], bits: int, *, signed: bool = False) -> np.ndarray:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    dtype = f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}"
    return RANDOM.integers(low, high, shape).astype(dtype)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("bits", [1, 6, 8, 10, 12, 15, 16])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("colour", ["MONOCHROME1", "MONOCHROME2"])
def test_grey_comes_back_in_its_nominal_range(syntax, bits, signed, colour):
    values = stored((5, 7), bits, signed=signed)
    image = read_image_bytes(dicom(values, syntax=syntax, bits=bits, colour=colour), "a.dcm")
    expected = values.astype(int) + (2 ** (bits - 1) if signed else 0)
    if colour == "MONOCHROME1":
        expected = 2**bits - 1 - expected
    np.testing.assert_array_equal(image.pixels, expected)
    assert image.pixels.dtype == (np.uint8 if bits <= 8 else np.uint16)
    assert (image.low, image.high) == (0, 2**bits - 1)
    assert (image.facts.format, image.facts.bits, image.facts.mode) == ("DICOM", bits, colour)
    assert image.facts.compression == syntax.name


def test_window_and_rescaling_leave_the_pixels_alone():
    values = stored((4, 4), 12)
    rescaled = {"RescaleSlope": 2.5, "RescaleIntercept": -1024, "WindowCenter": 40, "WindowWidth": 80}
    image = read_image_bytes(dicom(values, bits=12, values=rescaled), "a.dcm")
    np.testing.assert_array_equal(image.pixels, values)


def test_negative_slope_turns_dark_to_bright():
    values = stored((4, 4), 12)
    for colour, inverted in (("MONOCHROME2", True), ("MONOCHROME1", False)):
        image = read_image_bytes(dicom(values, bits=12, colour=colour, values={"RescaleSlope": -1}), "a.dcm")
        np.testing.assert_array_equal(image.pixels, 4095 - values if inverted else values)


def test_bits_above_the_stored_ones_are_left_out():
    values = stored((4, 4), 12)
    overlay = values | 0xA000
    np.testing.assert_array_equal(read_image_bytes(dicom(overlay, bits=12), "a.dcm").pixels, values)
    shifted = dicom((values << 4) | 0x5, bits=12, values={"HighBit": 15})
    np.testing.assert_array_equal(read_image_bytes(shifted, "a.dcm").pixels, values)
    negative = stored((4, 4), 12, signed=True)
    flagged = (negative.view(np.uint16) & 0x0FFF) | 0x5000  # what a 12-bit sign looks like under an overlay
    image = read_image_bytes(dicom(flagged.view(np.int16), bits=12), "a.dcm")
    np.testing.assert_array_equal(image.pixels, negative.astype(int) + 2048)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("bits", [8, 16])
def test_colour_in_both_arrangements(syntax, planar, bits):
    pixels = stored((5, 4, 3), bits)
    arranged = np.moveaxis(pixels, -1, 0) if planar else pixels
    byte_order = ">" if syntax == ExplicitVRBigEndian else "<"
    data = arranged.astype(f"{byte_order}u{bits // 8}").tobytes()
    file = dicom(pixels, syntax=syntax, bits=bits, colour="RGB", values={"PlanarConfiguration": planar, "PixelData": data})
    image = read_image_bytes(file, "a.dcm")
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.high == 2**bits - 1


def test_ybr_becomes_rgb():
    pixels = stored((6, 6, 3), 8)
    image = read_image_bytes(dicom(pixels, bits=8, colour="YBR_FULL"), "a.dcm")
    np.testing.assert_array_equal(image.pixels, convert_color_space(pixels, "YBR_FULL", "RGB"))


def test_facts_and_geometry():
    values = {
        "Manufacturer": "Acme\nImaging",
        "ManufacturerModelName": "CR 5",
        "InstitutionName": "بیمارستان",
        "SpecificCharacterSet": "ISO_IR 192",
        "AcquisitionDate": "20190203",
        "StudyDate": "20180101",
        "PatientID": "P 17",
        "PixelSpacing": [0.5, 0.25],
        "ImagerPixelSpacing": [1, 1],
        "PatientOrientation": ["L", "F"],
    }
    image = read_image_bytes(dicom(stored((4, 4), 12), bits=12, values=values), "a.dcm")
    facts = image.facts
    assert (facts.scanner, facts.site, facts.date) == ("Acme Imaging CR 5", "بیمارستان", "2019-02-03")
    assert facts.patient == "P 17"
    assert image.spacing_mm == (0.5, 0.25)
    assert image.orientation == "L\\F"


@pytest.mark.parametrize(
    ("values", "spacing"),
    [
        ({}, None),
        ({"PixelSpacing": [0, 0], "ImagerPixelSpacing": [0.2, 0.1]}, (0.2, 0.1)),
        ({"ImagerPixelSpacing": [0.2, 0.1]}, (0.2, 0.1)),
        ({"PixelSpacing": [-1, 1]}, None),
        ({"PixelSpacing": 0.3}, None),
    ],
)
def test_spacing_is_said_only_where_it_is_known(values, spacing):
    assert read_image_bytes(dicom(stored((2, 2), 12), bits=12, values=values), "a").spacing_mm == spacing


def test_direction_cosines_come_before_patient_orientation():
    values = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PatientOrientation": ["L", "F"]}
    image = read_image_bytes(dicom(stored((2, 2), 12), bits=12, values=values), "a")
    assert image.orientation == "1\\0\\0\\0\\1\\0"


def test_missing_and_senseless_facts_are_none():
    values = {"AcquisitionDate": "", "StudyDate": "19010101", "Manufacturer": " "}
    facts = read_image_bytes(dicom(stored((2, 2), 12), bits=12, values=values), "a").facts
    assert (facts.scanner, facts.site, facts.date, facts.patient) == (None, None, "1901-01-01", None)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (dicom(stored((3, 4), 12), bits=12, values={"NumberOfFrames": 3}), "3 frames"),
        (dicom(stored((4, 4), 12), bits=12, drop=("PixelData",)), "without integer pixels"),
        (dicom(stored((4, 4), 12), bits=12, drop=("Rows",)), "4 x 0 pixels"),
        (dicom(stored((4, 4), 12), bits=12, drop=("BitsAllocated",)), "0 bits allocated"),
        (dicom(stored((4, 4), 12), bits=12, values={"BitsAllocated": 32}), "32 bits allocated"),
        (dicom(stored((4, 4), 12), bits=12, values={"BitsStored": 17}), "17 stored"),
        (dicom(stored((4, 4), 12), bits=12, values={"HighBit": 16}), "16 as the highest bit"),
        (dicom(stored((4, 4), 8), bits=8, colour="PALETTE COLOR"), "palette in segments, or with none"),
        (dicom(stored((4, 4), 8), bits=8, colour="HSV"), "HSV and 1 samples"),
        (dicom(stored((4, 4, 3), 16), bits=16, colour="YBR_FULL"), "16 bits allocated"),
        (dicom(stored((4, 4), 8), bits=8, colour="RGB"), "RGB and 1 samples"),
        (dicom(stored((4, 4), 12), bits=12, values={"PixelData": b"\0" * 20}), "damaged or cut short"),
        (dicom(stored((4, 4), 12), bits=12, values={"PixelData": b"\0" * 64}), "says one frame and holds 2"),
    ],
)
def test_what_would_be_half_read_is_refused(data, message):
    with pytest.raises(ImageError, match=message):
        read_image_bytes(data, "a.dcm")


def test_a_file_without_transfer_syntax():
    original = dicom(stored((4, 4), 12), bits=12)
    with pytest.raises(ImageError, match="does not name its transfer syntax"):
        read_image_bytes(original.replace(b"\x02\x00\x10\x00UI", b"\x02\x00\x11\x00UI"), "a.dcm")


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("first", [0, 3])
def test_palettes_become_colours(bits, first):
    indices = stored((5, 7), 8)
    entries = stored((3, 200), bits)
    header: dict[str, object] = {}
    for colour, column in zip(("Red", "Green", "Blue"), entries, strict=True):
        header[f"{colour}PaletteColorLookupTableDescriptor"] = [200, first, bits]
        header[f"{colour}PaletteColorLookupTableData"] = column.astype(f"<u{bits // 8}").tobytes()
    image = read_image_bytes(dicom(indices, bits=8, colour="PALETTE COLOR", values=header), "a.dcm")
    np.testing.assert_array_equal(image.pixels, entries[:, (indices.astype(int) - first).clip(0, 199)].transpose(1, 2, 0))
    assert (image.low, image.high, image.facts.bits, image.facts.mode) == (0, 2**bits - 1, bits, "PALETTE COLOR")


def test_one_bit_a_pixel():
    drawn = stored((8, 8), 1)
    data = dicom(drawn, bits=1, values={"BitsAllocated": 1, "PixelData": np.packbits(drawn, bitorder="little").tobytes()})
    image = read_image_bytes(data, "a.dcm")
    np.testing.assert_array_equal(image.pixels, drawn)
    assert image.high == 1


def test_every_frame_of_an_uncompressed_file():
    for dtype, bits in ((np.uint8, 8), (np.uint16, 12)):
        values = stored((3, 5, 7), bits).astype(dtype)
        file = dicom(values[0], bits=bits, values={"NumberOfFrames": 3, "PixelData": values.tobytes() + b"\0"})
        for number in range(3):
            np.testing.assert_array_equal(read_image_bytes(file, "a.dcm", number).pixels, values[number])
        with pytest.raises(ImageError, match="is a DICOM file of 3 frames, and nothing says which one counts"):
            read_image_bytes(file, "a.dcm")
