"""A recording: everything that the tracker was told, so that a bug report is a file.

JSON lines, compressed with gzip. Bytes are spelled as Latin-1. Replaying tells another tracker the
same, and the same batches come out. A recording holds names of files, images and workloads, and no
content of files.
"""

import gzip
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from services.collector.cgroups import CgroupIndex
from services.collector.errors import RecordingError
from services.collector.events import CgroupEvent, FileEvent, FileSystemRoot, RawEvent
from services.collector.hold import Hold
from services.collector.runtime import ContainerInfo, ImageVolume
from services.collector.tracker import Tracker
from vexstream.batching import Limits, Room
from vexstream.evidence import Batch, Use
from vexstream.identity import Image, Workload, parse_digest

_FORMAT = "vexstream-collector-recording/1"


class RecordingTracker(Tracker):
    """A tracker that writes down what it is told."""

    def __init__(
        self,
        path: Path,
        *,
        node: str,
        run: str,
        attached_at_us: int,
        index: CgroupIndex,
        hold: Hold,
        limits: Limits,
        room: Room,
    ) -> None:
        """Raises RecordingError when the file cannot be written."""
        super().__init__(
            node=node, run=run, attached_at_us=attached_at_us, index=index, hold=hold,
            limits=limits, room=room,
        )  # fmt: skip
        self._known: dict[int, str] = {}
        try:
            self._file = gzip.open(path, "wt", compresslevel=1)  # noqa: SIM115 - closed by `close`
        except OSError as error:
            raise RecordingError(f"{path} cannot be written: {error}") from error
        head = {"format": _FORMAT, "node": node, "run": run, "attached_at_us": attached_at_us}
        self._write(head | {"hold": asdict(hold.bounds), "limits": asdict(limits)})

    def close(self) -> None:
        """Ends the file."""
        self._file.close()

    def begin(self, info: ContainerInfo, root: FileSystemRoot | None = None) -> None:
        """Recorded."""
        self._write_cgroups()
        self._write({"begin": asdict(info), "root": asdict(root) if root else None})
        super().begin(info, root)

    def mount(self, container_id: str, volumes: Iterable[ImageVolume]) -> None:
        """Recorded."""
        kept = list(volumes)
        if kept:
            self._write({"mount": container_id, "volumes": [asdict(one) for one in kept]})
        super().mount(container_id, kept)

    def place(self, container_id: str, path: str, device: int | None) -> None:
        """Recorded."""
        self._write({"place": container_id, "path": path, "device": device})
        super().place(container_id, path, device)

    def house(self, container_id: str, directory: bytes) -> None:
        """Recorded."""
        self._write({"house": container_id, "directory": directory.decode("latin-1")})
        super().house(container_id, directory)

    def seed(self, container_id: str, files: Iterable[tuple[bytes, Use]]) -> None:
        """Recorded."""
        kept = list(files)
        self._write(
            {"seed": container_id, "files": [[path.decode("latin-1"), use] for path, use in kept]}
        )
        super().seed(container_id, kept)

    def mark_started(self, container_id: str) -> None:
        """Recorded."""
        self._write_cgroups()
        self._write({"started": container_id})
        super().mark_started(container_id)

    def listed(self, container_id: str, asked_us: int) -> None:
        """Recorded."""
        self._write_cgroups()
        self._write({"listed": container_id, "at_us": asked_us})
        super().listed(container_id, asked_us)

    def learn(self, container_id: str, image: Image) -> None:
        """Recorded."""
        self._write({"learn": container_id, "image": asdict(image)})
        super().learn(container_id, image)

    def end(self, container_id: str, ended_at_us: int, exit_code: int | None = None) -> None:
        """Recorded."""
        self._write({"end": container_id, "at_us": ended_at_us, "exit_code": exit_code})
        super().end(container_id, ended_at_us, exit_code)

    def miss(self, container_id: str, now_us: int) -> bool:
        """Recorded."""
        self._write({"miss": container_id, "at_us": now_us})
        return super().miss(container_id, now_us)

    def found(self, container_id: str) -> None:
        """Recorded, where it had been missed or had ended."""
        tracked = self._tracked[container_id]
        if tracked.missed_at_us is not None or tracked.is_over:
            self._write({"found": container_id})
        super().found(container_id)

    def handle(self, events: Iterable[RawEvent], now_us: int) -> None:
        """Recorded."""
        kept = list(events)
        self._write_cgroups()
        self._write({"events": [_spelled(event) for event in kept], "at_us": now_us})
        super().handle(kept, now_us)

    def clock_set_back(self, by_us: int) -> None:
        """Recorded."""
        self._write({"set_back_us": by_us})
        super().clock_set_back(by_us)

    def lose(self, totals: Mapping[tuple[int, str], int], *, backing_off: bool = False) -> None:
        """Recorded."""
        if totals:
            lost = [[cgroup, reason, total] for (cgroup, reason), total in totals.items()]
            self._write({"lost": lost, "backing_off": backing_off})
        super().lose(totals, backing_off=backing_off)

    def lose_of(self, container_id: str, reason: str, count: int) -> None:
        """Recorded."""
        self._write({"lost_of": container_id, "reason": reason, "count": count})
        super().lose_of(container_id, reason, count)

    def cut(self, until_us: int) -> list[Batch]:
        """Recorded."""
        self._write_cgroups()
        self._write({"cut_us": until_us})
        return super().cut(until_us)

    def _write_cgroups(self) -> None:
        paths = self.index.paths
        if paths != self._known:
            fresh = {c: path for c, path in paths.items() if self._known.get(c) != path}
            self._known = dict(paths)
            if fresh:
                self._write({"cgroups": fresh})

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")


def replayed(path: Path) -> Iterator[tuple[list[Batch], list[Image], int]]:
    """For every cut of a recording: its batches, the images that ran, and its time.

    Raises:
        RecordingError: the file is no recording, or it ends in the middle of a line.
    """
    try:
        with gzip.open(path, "rt") as file:
            tracker = _tracker(json.loads(next(file, "{}")))
            for text in file:
                line = json.loads(text)
                if "cut_us" in line:
                    images = tracker.images
                    yield tracker.cut(line["cut_us"]), images, line["cut_us"]
                else:
                    _tell(tracker, line)
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise RecordingError(
            f"{path} is no whole recording of a collector: {type(error).__name__}: {error}"
        ) from error


def _tracker(head: dict[str, Any]) -> Tracker:
    if head.get("format") != _FORMAT:
        raise ValueError(f"it does not begin with {_FORMAT}")
    return Tracker(
        node=head["node"],
        run=head["run"],
        attached_at_us=head["attached_at_us"],
        index=CgroupIndex(Path("/nonexistent")),
        hold=Hold(**head["hold"]),
        limits=Limits(**head["limits"]),
    )


def _tell(tracker: Tracker, line: dict[str, Any]) -> None:
    if "events" in line:
        tracker.handle([_event(event) for event in line["events"]], line["at_us"])
    elif "cgroups" in line:
        for cgroup, path in line["cgroups"].items():
            tracker.index.learn(int(cgroup), path)
    elif "begin" in line:
        root = line["root"]
        tracker.begin(_info(line["begin"]), FileSystemRoot(**root) if root else None)
    elif "mount" in line:
        tracker.mount(line["mount"], _volumes(line))
    elif "place" in line:
        tracker.place(line["place"], line["path"], line["device"])
    elif "house" in line:
        tracker.house(line["house"], line["directory"].encode("latin-1"))
    elif "seed" in line:
        files = [(name.encode("latin-1"), Use(use)) for name, use in line["files"]]
        tracker.seed(line["seed"], files)
    elif "started" in line:
        tracker.mark_started(line["started"])
    elif "listed" in line:
        tracker.listed(line["listed"], line["at_us"])
    elif "learn" in line:
        tracker.learn(line["learn"], _image(line["image"]))
    elif "end" in line:
        tracker.end(line["end"], line["at_us"], line.get("exit_code"))
    elif "miss" in line:
        tracker.miss(line["miss"], line["at_us"])
    elif "set_back_us" in line:
        tracker.clock_set_back(line["set_back_us"])
    elif "found" in line:
        tracker.found(line["found"])
    elif "lost_of" in line:
        tracker.lose_of(line["lost_of"], line["reason"], line["count"])
    elif "lost" in line:
        totals = Counter({(cgroup, reason): total for cgroup, reason, total in line["lost"]})
        tracker.lose(totals, backing_off=line["backing_off"])


def _spelled(event: RawEvent) -> dict[str, Any]:
    if isinstance(event, CgroupEvent):
        return asdict(event)
    return asdict(event) | {"path": event.path.decode("latin-1"), "use": int(event.use)}


def _event(line: dict[str, Any]) -> RawEvent:
    if "use" not in line:
        return CgroupEvent(**line)
    known = {"path": line["path"].encode("latin-1"), "use": Use(line["use"])}
    return FileEvent(**line | known | {"root": FileSystemRoot(**line["root"])})


def _info(line: dict[str, Any]) -> ContainerInfo:
    known: dict[str, Any] = {
        "workload": Workload(**line["workload"]),
        "image": _image(line["image"]),
    }
    known |= {"volumes": _volumes(line), "copied": tuple(line.get("copied", ()))}
    known |= {"native": line.get("native", True)}  # as all were taken to be
    return ContainerInfo(**line | known)


def _volumes(line: dict[str, Any]) -> tuple[ImageVolume, ...]:
    return tuple(ImageVolume(_image(one["image"]), one["path"]) for one in line.get("volumes", ()))


def _image(line: dict[str, Any]) -> Image:
    return Image(
        parse_digest(line["config_digest"]),
        tuple(parse_digest(digest) for digest in line["manifest_digests"]),
        tuple(line["names"]),
        line.get("layers"),
        line.get("other_than"),
    )
