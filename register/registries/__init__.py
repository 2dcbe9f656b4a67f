"""Registries of similarities, global models, image readers, start finders and export formats.

Each has one line. It names the record, says where it is and what it is; the record itself, one value in one
file, holds the rest. Choices of options, tables in the docs and error messages are derived from these lines.
They lie below all other packages because options are checked before PyTorch is loaded.
"""

from register.registries.registry import Entry, Registry

SIMILARITIES = Registry(
    "similarity",
    "register.similarities",
    {
        "structure": Entry(
            "register.similarity.structure:STRUCTURE", "orientation of edges, whatever their contrast"
        ),
        "mind": Entry("register.similarity.mind:MIND", "self-similarity of each pixel's neighbourhood"),
        "ncc": Entry("register.similarity.ncc:NCC", "squared normalised cross-correlation of intensities"),
        "mi": Entry("register.similarity.mi:MI", "mutual information of the whole images"),
        "mse": Entry("register.similarity.mse:MSE", "mean squared difference of intensities"),
    },
)

MODELS = Registry(
    "global model",
    None,
    {
        "translation": Entry("register.geometry.models:TRANSLATION", "a shift"),
        "rigid": Entry("register.geometry.models:RIGID", "rotation and shift"),
        "similarity": Entry("register.geometry.models:SIMILARITY", "rotation, one scale and shift"),
        "affine": Entry("register.geometry.models:AFFINE", "any linear map and shift"),
    },
)

READERS = Registry(
    "image reader",
    "register.readers",
    {
        "ome-zarr": Entry("register.io.images.ome_zarr:READER", "OME-Zarr folders"),
        "slideio": Entry("register.io.images.slideio_read:READER", "CZI, VSI and ZVI (extra slides)"),
        "openslide": Entry(
            "register.io.images.openslide_read:READER",
            "MRXS, BIF, VMS, Sakura, DICOM slides (extra slides)",
        ),
        "imaris": Entry("register.io.images.imaris:READER", "Imaris IMS (extra microscopes)"),
        "nd2": Entry("register.io.images.nikon:READER", "Nikon ND2 (extra microscopes)"),
        "lif": Entry("register.io.images.leica:READER", "Leica LIF and LOF (extra microscopes)"),
        "oib": Entry("register.io.images.olympus:READER", "Olympus OIB and OIF (extra microscopes)"),
        "fits": Entry("register.io.images.fits:READER", "FITS images (extra astronomy)"),
        "instruments": Entry(
            "register.io.images.instruments:READER", "formats of instruments that are refused by name"
        ),
        "tiff": Entry(
            "register.io.images.tiff:READER", "TIFF, BigTIFF, OME-TIFF, ImageJ, SVS, NDPI and other TIFFs"
        ),
        "raster": Entry(
            "register.io.images.raster:READER", "PNG, JPEG, JPEG 2000, GIF, WebP, BMP, PGM, PPM, PFM"
        ),
    },
)

STARTS = Registry(
    "start finder",
    "register.starts",
    {
        "features": Entry("register.engine.initial.features:FINDER", "SIFT features that agree on one map"),
        "correlation": Entry(
            "register.engine.initial.correlation:FINDER", "correlation over rotations and scales"
        ),
        "shifts": Entry(
            "register.engine.initial.shifts:FINDER", "correlation over all shifts, however little overlaps"
        ),
        "xfeat": Entry(
            "register.engine.initial.xfeat:FINDER", "learned features that agree on one map (extra learned)"
        ),
        "points": Entry("register.engine.points.finder:FINDER", "the arrangement of stars, beads or nuclei"),
    },
)

EXPORTS = Registry(
    "export format",
    "register.exports",
    {
        "itk": Entry("register.io.transforms.itk:TEXT", "ITK transform file (.tfm)"),
        "itk-h5": Entry("register.io.transforms.itk:HDF5", "ITK displacement field or affine in HDF5"),
        "elastix": Entry("register.io.transforms.elastix:EXPORT", "elastix parameter file for transformix"),
        "field-tiff": Entry("register.io.transforms.fields:TIFF", "displacement field as a TIFF"),
        "field-nifti": Entry(
            "register.io.transforms.fields:NIFTI", "displacement field as NIfTI with ITK's axes"
        ),
        "field-mha": Entry("register.io.transforms.fields:MHA", "displacement field as MetaImage"),
        "ngff": Entry("register.io.transforms.ngff:EXPORT", "OME-Zarr scene with a transformation (RFC-5)"),
        "spatialdata": Entry(
            "register.io.transforms.spatialdata:EXPORT", "transformation of an element of SpatialData"
        ),
        "csv": Entry("register.io.transforms.control_points:TABLE", "control points as a table"),
        "npz": Entry("register.io.transforms.fields:NPZ", "displacement field as NumPy arrays"),
        "gcp": Entry(
            "register.io.transforms.control_points:GCP", "ground control points in a GDAL virtual raster"
        ),
        "json": Entry("register.io.transforms.own:EXPORT", "transform.json, of a frame of a movie"),
    },
)

ALL = {registry.kind: registry for registry in (SIMILARITIES, MODELS, READERS, STARTS, EXPORTS)}
"""The registries by what they hold, for the docs and ``register doctor``."""
