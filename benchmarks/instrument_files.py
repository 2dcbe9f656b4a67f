"""Small files of ND2, LIF, OIB, Imaris and Trestle, which no library writes, by their descriptions."""

import io
import struct
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import tifffile

ND2_MAGIC = 0x0ABECEDA
ND2_NAME = 4072
"""Bytes of the name of a frame of an ND2, which puts its pixels on a page of 4096 bytes."""
SECTOR = 512
"""Bytes of a sector of a compound document."""
LAST, FREE, TABLE = 0xFFFFFFFE, 0xFFFFFFFF, 0xFFFFFFFD
"""Marks in the table of sectors: the last sector of a stream, a free one, one of the table itself."""


def write_nd2(path: Path, frames: np.ndarray, names: tuple[str, ...], size: float) -> None:
    """An ND2 of depths, channels, rows and columns (z, c, h, w) uint16, its pixels ``size`` µm wide.

    Three channels of one name are the colours blue, green and red of one picture, as the format stores them.
    """
    depth, channels, height, width = frames.shape
    attributes = {
        "uiWidth": width, "uiHeight": height, "uiWidthBytes": width * channels * 2, "uiComp": channels,
        "uiBpcInMemory": 16, "uiBpcSignificant": 16, "uiSequenceCount": depth, "eCompression": 2,
    }  # fmt: skip
    planes = {
        f"a{n}": {
            "sDescription": name,
            "uiColor": 255 << 8 * n,
            "uiCompCount": channels // len(names),
            "uiSampleIndex": n,
            "pFluorescentProbe": {"sName": name},
        }
        for n, name in enumerate(names)
    }
    metadata = {
        "bCalibrated": True,
        "dCalibration": size,
        "sPicturePlanes": {"uiCount": len(names), "sPlaneNew": planes},
    }
    loop = {"uiCount": depth, "dZLow": 0.0, "dZHigh": float(depth), "dZStep": 1.0, "iType": 0}
    chunks = [("ImageAttributes!", _xml(attributes)), ("ImageMetadataSeq|0!", _xml(metadata))]
    if depth > 1:
        chunks.append(("ImageMetadata!", _xml({"eType": 4, "uLoopPars": loop})))
    file = io.BytesIO()
    _chunk(file, b"ND2 FILE SIGNATURE CHUNK NAME01!", b"Ver2.1".ljust(64, b"\0"))
    places = []
    for name, data in chunks:
        places.append((name, file.tell(), len(data)))
        _chunk(file, name.encode(), data)
    for number, frame in enumerate(frames):
        name, data = f"ImageDataSeq|{number}!", bytes(8) + np.moveaxis(frame, 0, 2).tobytes()
        places.append((name, file.tell(), len(data)))
        _chunk(file, name.encode().ljust(ND2_NAME, b"\0"), data)
    where = file.tell()
    listed = b"".join(name.encode() + struct.pack("<QQ", *place) for name, *place in places)
    end = b"ND2 CHUNK MAP SIGNATURE 0000001!"
    _chunk(file, b"ND2 FILEMAP SIGNATURE NAME 0001!", listed + end + struct.pack("<Q", where))
    path.write_bytes(file.getvalue())


def _chunk(file: io.BytesIO, name: bytes, data: bytes) -> None:
    file.write(struct.pack("<IIQ", ND2_MAGIC, len(name), len(data)) + name + data)


def _xml(values: dict) -> bytes:
    """Values as Nikon's XML of variants."""

    def node(name: str, value: object) -> str:
        if isinstance(value, dict):
            inside = "".join(node(key, each) for key, each in value.items())
            return f'<{name} runtype="CLxListVariant">{inside}</{name}>'
        kinds = {bool: "bool", int: "lx_uint32", float: "double", str: "CLxStringW"}
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return f'<{name} runtype="{kinds[type(value)]}" value={quoteattr(text)}/>'

    return f'<variant version="1.0">{node("no_name", values)}</variant>'.encode()


def write_lif(path: Path, images: list[np.ndarray], names: tuple[str, ...], size: float) -> None:
    """A LIF of images of channels, depths, rows and columns (c, z, h, w), its pixels ``size`` µm wide."""
    elements, blocks = [], b""
    for number, image in enumerate(images):
        bits = image.itemsize * 8
        channels = "".join(
            f'<ChannelDescription DataType="0" ChannelTag="0" Resolution="{bits}" NameOfMeasuredQuantity=""'
            f' Min="0" Max="1" Unit="" LUTName="{colour}" IsLUTInverted="0" BytesInc="{n * image[0].nbytes}"'
            f' BitInc="0"><ChannelProperty><Key>DyeName</Key><Value>{name}</Value></ChannelProperty>'
            "</ChannelDescription>"
            for n, (name, colour) in enumerate(zip(names, ("Blue", "Green"), strict=True))
        )
        sides = ((1, image.shape[3], image.strides[3]), (2, image.shape[2], image.strides[2]),
                 (3, image.shape[1], image.strides[1]))  # fmt: skip
        dimensions = "".join(
            f'<DimensionDescription DimID="{axis}" NumberOfElements="{count}" Origin="0"'
            f' Length="{(count - 1) * size * 1e-6!r}" Unit="m" BitInc="0" BytesInc="{step}"/>'
            for axis, count, step in sides
        )
        elements.append(
            f'<Element Name="image {number}"><Data><Image><ImageDescription><Channels>{channels}</Channels>'
            f"<Dimensions>{dimensions}</Dimensions></ImageDescription></Image></Data>"
            f'<Memory Size="{image.nbytes}" MemoryBlockID="MemBlock_{number}"/></Element>'
        )
        name = f"MemBlock_{number}".encode("utf-16-le")
        head = struct.pack("<IIBQBI", 0x70, len(name) + 10, 0x2A, image.nbytes, 0x2A, len(name) // 2)
        blocks += head + name + np.ascontiguousarray(image).tobytes()
    text = '<LMSDataContainerHeader Version="2"><Element Name="a"><Children>'
    text = f"{text}{''.join(elements)}</Children></Element></LMSDataContainerHeader>"
    head = text.encode("utf-16-le")
    path.write_bytes(struct.pack("<IIBI", 0x70, len(head) + 5, 0x2A, len(text)) + head + blocks)


def write_oib(path: Path, planes: np.ndarray, names: tuple[str, ...], size: float) -> None:
    """An OIB of channels, depths, rows and columns (c, z, h, w) uint16, its pixels ``size`` µm wide."""
    channels, depth, height, width = planes.shape
    stated = [("Reference Image Parameter", {
        "ImageWidth": width, "ImageHeight": height, "WidthConvertValue": size, "HeightConvertValue": size,
        "WidthUnit": '"um"', "HeightUnit": '"um"', "ValidBitCounts": 12,
    })]  # fmt: skip
    stated += [(f"GUI Channel {n} Parameters", {"DyeName": f'"{name}"'}) for n, name in enumerate(names, 1)]
    streams, info = {"Stream00000": _settings(stated)}, {"Stream00000": "a.oif"}
    for c in range(channels):
        for z in range(depth):
            file = io.BytesIO()
            tifffile.imwrite(file, planes[c, z], photometric="minisblack")
            name = f"Stream{len(streams):05d}"
            streams[name], info[name] = file.getvalue(), f"Storage00001/s_C{c + 1:03d}Z{z + 1:03d}.tif"
    main = {"Name": "OibInfo", "Version": "2.0.0.0", "MainFileName": "Stream00000", **info}
    streams["OibInfo.txt"] = _settings([("OibSaveInfo", main)])
    path.write_bytes(compound(streams))


def write_oif(path: Path, planes: np.ndarray, names: tuple[str, ...], size: float) -> None:
    """The same as an OIF: the settings, and the planes in the folder beside it."""
    import oiffile

    whole = path.with_name(f"{path.stem}-whole.oib")
    write_oib(whole, planes, names, size)
    folder = path.parent / f"{path.name}.files"
    folder.mkdir()
    with oiffile.OifFile(whole) as file:
        for name in file.glob("*.tif"):
            (folder / name.rpartition("/")[2]).write_bytes(file.open_file(name).read())
        own = file.open_file("a.oif").read()
    saved = _settings([("ProfileSaveInfo", {"Name": "a.oif", "Version": "2.0.0.0"})])
    path.write_bytes(own + saved[2:])
    whole.unlink()


def _settings(sections: list[tuple[str, dict]]) -> bytes:
    """Settings of FluoView, in UTF-16 with its mark."""
    lines = [
        line for name, values in sections for line in (f"[{name}]", *(f"{k}={v}" for k, v in values.items()))
    ]
    return b"\xff\xfe" + "".join(f"{line}\r\n" for line in lines).encode("utf-16-le")


def compound(streams: dict[str, bytes]) -> bytes:
    """A compound document (version 3) of some streams, each of at least 4096 bytes, filled with line ends."""
    table, body, entries = [], b"", []
    for name, data in streams.items():
        filled = data + b"\r\0\n\0" * max(0, (4096 - len(data)) // 4 + 1) if name == "OibInfo.txt" or (
            name == "Stream00000") else data.ljust(4096, b"\0")  # fmt: skip
        start, count = len(table), -(-len(filled) // SECTOR)
        table += [*range(start + 1, start + count), LAST]
        body += filled.ljust(count * SECTOR, b"\0")
        entries.append(_entry(name, 2, start, len(filled), right=len(entries) + 2))
    entries[-1] = _entry(list(streams)[-1], 2, start, len(filled))
    directory = b"".join([_entry("Root Entry", 5, LAST, 0, child=1), *entries])
    first, count = len(table), -(-len(directory) // SECTOR)
    table += [*range(first + 1, first + count), LAST]
    body += directory.ljust(count * SECTOR, b"\0")
    sectors = -(-(len(table) + -(-len(table) // 127)) * 4 // SECTOR)
    own = list(range(len(table), len(table) + sectors))
    table += [TABLE] * sectors
    table += [FREE] * (sectors * SECTOR // 4 - len(table))
    body += struct.pack(f"<{len(table)}I", *table)
    head = struct.pack(
        "<8s16xHHHHH6xIIIIIIIII", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", 0x3E, 3, 0xFFFE, 9, 6,
        0, sectors, first, 0, 4096, LAST, 0, LAST, 0,
    )  # fmt: skip
    return head + struct.pack("<109I", *own, *[FREE] * (109 - len(own))) + body


def _entry(name: str, kind: int, start: int, size: int, child: int = FREE, right: int = FREE) -> bytes:
    """An entry of the directory of a compound document."""
    text = name.encode("utf-16-le") + b"\0\0"
    return struct.pack("<64sHBBIII16xI8x8xIQ", text, len(text), kind, 1, FREE, right, child, 0, start, size)


def write_trestle(path: Path, picture: np.ndarray, side: int, overlap: int) -> None:
    """A Trestle slide of a picture (h, w, 3) uint8: a TIFF whose square tiles repeat ``overlap`` pixels."""
    step = side - overlap
    down, across = ((n - overlap) // step for n in picture.shape[:2])
    stored = np.zeros((down * side, across * side, 3), np.uint8)
    for row in range(down):
        for column in range(across):
            tile = picture[row * step : row * step + side, column * step : column * step + side]
            stored[row * side : (row + 1) * side, column * side : (column + 1) * side] = tile
    text = f"Background Color=FFFFFF;OverlapsXY= {overlap} {overlap};Objective Power=20"
    with tifffile.TiffWriter(path) as file:
        file.write(stored, tile=(side, side), photometric="rgb", software="MedScan", description=text,
                   resolution=(0.5, 0.25), metadata=None)  # fmt: skip


def write_imaris(path: Path, stack: np.ndarray, extent: tuple[float, ...]) -> None:
    """An Imaris 5.5 file of (c, z, h, w) with two levels, padded to chunks of 64."""
    import h5py

    def text(value):
        return np.array([c.encode() for c in str(value)], "S1")

    with h5py.File(path, "w") as file:
        for level, factor in ((0, 1), (1, 2)):
            part = stack[:, :, ::factor, ::factor]
            for channel, values in enumerate(part):
                group = file.create_group(f"DataSet/ResolutionLevel {level}/TimePoint 0/Channel {channel}")
                for axis, size in zip("ZYX", values.shape, strict=True):
                    group.attrs[f"ImageSize{axis}"] = text(size)
                padding = [(0, 0), *((0, -size % 64) for size in values.shape[1:])]
                group.create_dataset(
                    "Data", data=np.pad(values, padding), chunks=(1, 64, 64), compression="gzip"
                )
        info = file.create_group("DataSetInfo/Image").attrs
        info["Unit"] = text("um")
        for n, length in enumerate(extent):
            info[f"ExtMin{n}"], info[f"ExtMax{n}"] = text(0), text(length)
        for n, (name, colour) in enumerate((("DAPI", "0 0 1"), ("CD3", "1 0.5 0"))):
            channel = file.create_group(f"DataSetInfo/Channel {n}").attrs
            channel["Name"], channel["Color"] = text(name), text(colour)
