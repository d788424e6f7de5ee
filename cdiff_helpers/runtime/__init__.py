"""What the course runs on: `machine` (device, seeds, sizes, folder), `files` and `report`.

Home: notebook 01.
"""

from cdiff_helpers.defaults import PRECISIONS, PRESETS, Preset
from cdiff_helpers.runtime.files import (
    SUMS,
    check_writable,
    digest_line,
    sync_folder,
    whole_bytes,
    write_digests,
    write_synced,
    write_whole,
)
from cdiff_helpers.runtime.machine import (
    autocast,
    autocast_dtype,
    course_home,
    course_preset,
    device_error,
    pick_device,
    release_memory,
    seed_everything,
)
from cdiff_helpers.runtime.report import (
    describe_compute,
    environment_report,
    installed_version,
    processor_name,
    provenance,
)

__all__ = [
    "PRECISIONS",
    "PRESETS",
    "SUMS",
    "Preset",
    "autocast",
    "autocast_dtype",
    "check_writable",
    "course_home",
    "course_preset",
    "describe_compute",
    "device_error",
    "digest_line",
    "environment_report",
    "installed_version",
    "pick_device",
    "processor_name",
    "provenance",
    "release_memory",
    "seed_everything",
    "sync_folder",
    "whole_bytes",
    "write_digests",
    "write_synced",
    "write_whole",
]
