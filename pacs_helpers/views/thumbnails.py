"""Small pictures of a study, where its pixels can be decoded here; else a sentence that says why not."""

import base64
import functools
import html
import io
import os
import struct
import warnings
import zlib

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, pixel_array

from ..schemas import NOT_IMAGES

MOST, EDGE, MOST_PIXELS = 4, 160, 64_000_000
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
UNREADABLE = (OSError, EOFError, ValueError, TypeError, AttributeError, LookupError, RuntimeError, MemoryError, ArithmeticError, AssertionError, struct.error, zlib.error, InvalidDicomError)


def middle_images(instances, study_uid):
    """The middle image of each series of a study, at most four, with `n_images` and `position` in the series; structured documents are left out."""
    rows = instances[(instances["study_instance_uid"] == study_uid) & (instances["sop_instance_uid"] != "") & ~instances["modality"].isin(NOT_IMAGES)]
    rows = rows.drop_duplicates("sop_instance_uid").assign(series=pd.to_numeric(rows["series_number"], errors="coerce"), image=pd.to_numeric(rows["instance_number"], errors="coerce"))
    groups = rows.sort_values(["series", "series_instance_uid", "image"], kind="stable").groupby("series_instance_uid", sort=False)
    return [{**group.iloc[len(group) // 2].to_dict(), "n_images": len(group), "position": len(group) // 2 + 1} for _, group in list(groups)[:MOST]]


def thumbnail(path):
    """`(PNG bytes, "")` of the middle frame of a DICOM file, at most 160 pixels wide or high, or `(b"", why there is none)`. Nothing raises."""
    try:
        changed = os.stat(path).st_mtime_ns
    except OSError:
        return b"", "the file is inside an archive: open it in the viewer" if ".zip!" in path else "the file is not where it was read"
    return _thumbnail(path, changed)


@functools.lru_cache(maxsize=64)
def _thumbnail(path, changed):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = pydicom.dcmread(path, force=True, defer_size=65536)
            if not any(name in ds for name in PIXELS):
                return b"", "the file holds no pixel data"
            if ds.Rows * ds.Columns > MOST_PIXELS:
                return b"", "the image is too large to be shown here"
            frames = int(ds.get("NumberOfFrames") or 1)
            return _png(_shades(pixel_array(path, index=frames // 2), ds)), ""
    except UNREADABLE:
        return b"", "its pixels cannot be decoded here"


def _shades(pixels, ds):
    """Eight-bit grey or colour, through the image's own window where that shows anything, else from the 1st to the 99th percentile."""
    if ds.SamplesPerPixel > 1:
        return (pixels >> max(ds.BitsStored - 8, 0)).astype("uint8")
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        colours = apply_color_lut(pixels, ds)
        return (colours >> 8 if colours.dtype.itemsize > 1 else colours).astype("uint8")
    step = max(1, max(pixels.shape) // EDGE)
    small = pixels[::step, ::step]
    values = apply_modality_lut(small, ds).astype(float)
    shown = apply_voi_lut(values, ds).astype(float) if "WindowWidth" in ds else values
    if "WindowWidth" not in ds or np.ptp(shown) == 0:
        inside = values[small != ds.get("PixelPaddingValue")]
        shown = np.clip(values, *np.percentile(inside if inside.size else values, (1, 99)))
    grey = (shown - shown.min()) / (np.ptp(shown) or 1) * 255
    return (255 - grey if ds.PhotometricInterpretation == "MONOCHROME1" else grey).astype("uint8")


def _png(shades):
    step, stream = -(-max(shades.shape[:2]) // EDGE), io.BytesIO()
    plt.imsave(stream, shades[::step, ::step], cmap="gray", vmin=0, vmax=255, format="png")
    return stream.getvalue()


def thumbnails_html(instances, study_uid):
    """The pictures of a study as HTML figures, described by series number and modality alone; a sentence stands where a picture cannot."""
    images = middle_images(instances, study_uid)
    if not images:
        return "<p><em>No images of this study were read.</em></p>"
    shown = [(image, *thumbnail(image["source_file"])) for image in images]
    if not any(png for _, png, _ in shown) and len({why for _, _, why in shown}) == 1:
        return f"<p style='line-height:1.5;margin-left:12px'><em>No pictures: {shown[0][2]}.</em></p>"
    n_series = instances.loc[(instances["study_instance_uid"] == study_uid) & ~instances["modality"].isin(NOT_IMAGES), "series_instance_uid"].nunique()
    more = f"<p><em>{n_series - len(images)} more series.</em></p>" if n_series > len(images) else ""
    return f"<div style='display:flex;flex-wrap:wrap;gap:8px'>{''.join(_figure(*each) for each in shown)}</div>{more}"


def _figure(image, png, why):
    name = html.escape(f"Series {image['series_number'] or '?'}, {image['modality'] or 'unknown modality'}")
    shown = f"<img alt='Middle image of {name}' src='data:image/png;base64,{base64.b64encode(png).decode()}' style='display:block'>" if png else f"<em>No picture: {why}.</em>"
    return f"<figure style='margin:0;max-width:{EDGE}px;line-height:1.4'>{shown}<figcaption>{name}<br>image {image['position']} of {image['n_images']}</figcaption></figure>"
