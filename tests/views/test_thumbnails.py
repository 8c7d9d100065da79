import io
import zipfile

import matplotlib.image
import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless, generate_uid

from pacs_helpers.readers.headers import read_headers
from pacs_helpers.views.thumbnails import middle_images, thumbnail, thumbnails_html

from ..small_department import SITE


def image(pixels, *, syntax=ExplicitVRLittleEndian, series="2.25.11", number=1, **more):
    """A DICOM image of one patient's study whose stored values are `pixels`."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid("2.25.")
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.PatientID, ds.PatientName, ds.Modality, ds.SeriesNumber, ds.InstanceNumber = "2.25.1", series, "TEST1", "ASH^ROWAN", "CT", 2, number
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.BitsAllocated = ds.BitsStored = pixels.dtype.itemsize * 8
    ds.HighBit, ds.Rows, ds.Columns = ds.BitsStored - 1, *pixels.shape[-2:]
    ds.PixelData = pixels.tobytes()
    for name, value in more.items():
        setattr(ds, name, value)
    return ds


def saved(tmp_path, ds, name="1.dcm"):
    ds.save_as(tmp_path / name, enforce_file_format=True)
    return str(tmp_path / name)


def greys(png):
    return (matplotlib.image.imread(io.BytesIO(png), format="png")[..., 0] * 255).round().astype(int)


RAMP = np.tile(np.arange(0, 2000, 20, dtype="uint16"), (100, 1))


def test_the_images_own_window_decides_what_is_black_and_white(tmp_path):
    """Window 500 wide around 1000: stored values up to 750 are black, from 1250 on white, with the rescale of a CT taken into account."""
    png, why = thumbnail(saved(tmp_path, image(RAMP, WindowCenter=0, WindowWidth=500, RescaleSlope=1, RescaleIntercept=-1000)))
    row = greys(png)[0]
    assert why == "" and set(row[:37]) == {0} and set(row[63:]) == {255} and 120 < row[50] < 136


def test_a_window_that_shows_nothing_gives_way_to_the_values_that_are_there(tmp_path):
    row = greys(thumbnail(saved(tmp_path, image(RAMP, WindowCenter=60000, WindowWidth=1)))[0])[0]
    assert row[0] == 0 and row[-1] == 255 and sorted(row) == list(row)


def test_monochrome1_is_shown_with_high_values_dark(tmp_path):
    row = greys(thumbnail(saved(tmp_path, image(RAMP, PhotometricInterpretation="MONOCHROME1")))[0])[0]
    assert row[0] == 255 and row[-1] == 0


def test_of_many_frames_the_middle_one_is_shown_and_a_large_image_is_made_small(tmp_path):
    frames = np.zeros((3, 480, 320), "uint8")
    frames[1, :, 160:] = 200
    shown = greys(thumbnail(saved(tmp_path, image(frames, NumberOfFrames=3)))[0])
    assert shown.shape == (160, 107) and shown[0, 0] == 0 and shown[0, -1] == 255


def test_colour_stays_colour(tmp_path):
    red = np.zeros((20, 20, 3), "uint8")
    red[..., 0] = 200
    ds = image(np.zeros((20, 20), "uint8"), SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)
    ds.PixelData = red.tobytes()
    shown = matplotlib.image.imread(io.BytesIO(thumbnail(saved(tmp_path, ds))[0]), format="png")[0, 0, :3]
    assert [round(float(v) * 255) for v in shown] == [200, 0, 0]


def test_why_there_is_no_picture_is_said_and_nothing_raises(tmp_path):
    header = image(RAMP)
    del header.PixelData
    broken = image(RAMP, syntax=JPEG2000Lossless)
    broken.PixelData = encapsulate([b"no JPEG 2000 at all!"])
    short = image(RAMP)
    short.PixelData = short.PixelData[:500]
    (tmp_path / "text").write_text("not DICOM")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as z:
        z.writestr("1.dcm", b"")
    paths = [saved(tmp_path, header), saved(tmp_path, broken, "2.dcm"), saved(tmp_path, short, "3.dcm"), str(tmp_path / "gone.dcm"), str(tmp_path / "text"), f"{tmp_path}/a.zip!1.dcm",
             saved(tmp_path, image(RAMP, Rows=60000, Columns=60000), "4.dcm")]
    told = [thumbnail(path) for path in paths]
    assert all(png == b"" for png, _ in told)
    assert [why for _, why in told] == ["the file holds no pixel data", "its pixels cannot be decoded here", "its pixels cannot be decoded here", "the file is not where it was read",
                                        "the file holds no pixel data", "the file is inside an archive: open it in the viewer", "the image is too large to be shown here"]


@pytest.mark.parametrize("at", range(140, 900, 37))
def test_a_damaged_byte_leaves_a_picture_or_a_sentence(tmp_path, at):
    path = tmp_path / "1.dcm"
    saved(tmp_path, image(RAMP, WindowCenter=0, WindowWidth=500))
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 0xFF
    path.write_bytes(data)
    png, why = thumbnail(str(path))
    assert bool(png) != bool(why)


def test_each_series_shows_its_middle_image_four_series_at_most(tmp_path):
    for series in range(5):
        for number in range(1, 4):
            saved(tmp_path, image(RAMP, series=f"2.25.{series}", number=number, SeriesNumber=9 - series), f"{series}{number}.dcm")
    instances = read_headers(tmp_path, site=SITE).instances
    shown = middle_images(instances, "2.25.1")
    assert [(i["series_number"], i["instance_number"], i["position"], i["n_images"]) for i in shown] == [(n, "2", 2, 3) for n in ("5", "6", "7", "8")]
    page = thumbnails_html(instances, "2.25.1")
    assert page.count("data:image/png;base64,") == 4 and "1 more series." in page and "alt='Middle image of Series 5, CT'" in page
    assert "TEST1" not in page and "ASH" not in page
    assert "No images of this study were read" in thumbnails_html(instances, "2.25.9")
