"""Frames from video files and cameras, and video files from frames."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np
from jaxtyping import UInt8

from ...data.images import MAX_FILE_PIXELS, DataError
from .video_addresses import display_name, is_live, is_stream

FALLBACK_FPS = 30.0  # where a file or camera does not say
MIN_COMPLETE = 0.9  # of the duration that a file claims; one that ends earlier was cut short
FPS_RANGE = (1.0, 1000.0)
TIMEOUT_MS = 10_000  # of a network camera
STREAM_OPTIONS = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, TIMEOUT_MS]


class VideoReader:
    """A video file or a camera, as RGB frames with their times; close it, or use it as a context.

    Raises (here and while frames are read):
        DataError: no such file or camera, a file that is no video, one without frames, frames that are too large.
    """

    def __init__(self, source: str | Path | int) -> None:
        """`source`: a file, the number of a camera, or a network camera's address (rtsp://)."""
        self.source, self.live = display_name(source), is_live(source)
        if isinstance(source, int):
            self._capture = cv2.VideoCapture(source)
            if not self._capture.isOpened():
                raise DataError(f"camera {source} is not there, or is in use by another program")
        elif is_stream(source):
            self._capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG, STREAM_OPTIONS)
            if not self._capture.isOpened():
                raise DataError(f"camera {self.source} gives no video within {TIMEOUT_MS // 1000} seconds; is it on?")
        else:
            path = Path(source)
            if not path.is_file():
                raise DataError(
                    f"{path} is a folder or a device, not a video" if path.exists() else f"{path}: no such file"
                )
            if not os.access(path, os.R_OK):
                raise DataError(f"{path} cannot be read: permission denied")
            if path.stat().st_size == 0:
                raise DataError(f"{path} is empty (0 bytes); copy it again")
            self._capture = cv2.VideoCapture(str(path))
            if not self._capture.isOpened():
                raise DataError(f"{path} is not a video that can be read, or is damaged; give an MP4, MOV, AVI or WebM")
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = float(fps) if fps == fps and FPS_RANGE[0] <= fps <= FPS_RANGE[1] else FALLBACK_FPS
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.count = int(count) if not self.live and 0 < count < 10**9 else None  # as the file claims
        self.read, self._first, self._seconds = 0, 0.0, 0.0  # frames; time of the first; from there to the last one

    def __iter__(self) -> Iterator[tuple[UInt8[np.ndarray, "h w 3"], float]]:
        """Frames and their times in s from the first one: a camera's by the clock, since it drops frames that are not
        read in time; a file's by its own times where they increase, else by its nominal rate."""
        while True:
            there, frame = self._capture.read()
            if not there or frame is None:
                break
            if frame.shape[0] * frame.shape[1] > MAX_FILE_PIXELS // 4:
                raise DataError(f"{self.source}: frames of {frame.shape[1]} x {frame.shape[0]} px are too large")
            self._keep_time()
            yield np.ascontiguousarray(frame[..., ::-1]), self._seconds
        if self.read == 0:
            raise DataError(f"{self.source} has no frames that can be read; copy it again")

    def _keep_time(self) -> None:
        """Count the frame just read and set its time."""
        now = time.monotonic() if self.live else self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if self.read == 0:
            self._first = now
        elif now - self._first > self._seconds:
            self._seconds = now - self._first
        else:
            self._seconds += 1 / self.fps
        self.read += 1

    @property
    def truncation_message(self) -> str:
        """The message about a file whose frames end long before the duration that it claims; "" for a whole one."""
        last = max((self.read - 1) / self.fps, self._first + self._seconds)
        if self.count is None or (last + 2 / self.fps) >= MIN_COMPLETE * self.count / self.fps:
            return ""
        return (
            f"{self.source}: {self.read} of about {self.count} frames can be read: it was cut short, or is damaged; "
            "copy it again"
        )

    def close(self) -> None:
        """Release the file or camera."""
        self._capture.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class VideoWriter:
    """An MP4 file (MPEG-4 part 2, which every OpenCV writes), under a temporary name until it is whole."""

    def __init__(self, path: Path, fps: float) -> None:
        self.path, self.fps, self.added = path, fps, 0  # frames
        self._temporary = path.with_name(f".{os.getpid()}.{path.name}")
        self._writer: cv2.VideoWriter | None = None
        self._size: tuple[int, int] = (0, 0)

    def add(self, frame: UInt8[np.ndarray, "h w 3"]) -> None:
        """Append a frame; all get the size of the first, made even.

        Raises:
            DataError: the file cannot be written.
        """
        if self._writer is None:
            self._size = tuple(max(2, side - side % 2) for side in frame.shape[1::-1])
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = cv2.VideoWriter(str(self._temporary), cv2.VideoWriter_fourcc(*"mp4v"), self.fps, self._size)
            if not self._writer.isOpened():
                raise DataError(f"{self.path} cannot be written as a video")
        if frame.shape[1::-1] != self._size:
            frame = frame[: self._size[1], : self._size[0]]
            if frame.shape[1::-1] != self._size:
                frame = cv2.resize(frame, self._size)
        self._writer.write(np.ascontiguousarray(frame[..., ::-1]))
        self.added += 1

    def close(self, keep: bool = True) -> None:
        """Finish the file and give it its name, or drop it.

        Raises:
            DataError: the file has fewer frames than were added: OpenCV does not report a full disk.
        """
        written, self._writer = self._writer, None
        try:
            if written is not None:
                written.release()
                if keep and _count(self._temporary) < self.added:
                    raise DataError(f"{self.path} could not be written whole; is the disk full?")
                if keep:
                    self._temporary.replace(self.path)
        finally:
            self._temporary.unlink(missing_ok=True)


def _count(path: Path) -> int:
    """Frames of a video file by its own index; 0 where it has none."""
    capture = cv2.VideoCapture(str(path))
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    capture.release()
    return count
