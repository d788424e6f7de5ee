"""What the course runs on: `machine` (device, seeds, sizes, folders), `files` and `report`.

Home: notebook 01.
"""

from cdiff_helpers.defaults import PRECISIONS, PRESETS, Preset
from cdiff_helpers.runtime.files import (
    SUMS,
    check_writable,
    digest_line,
    sync_folder,
    verified_bytes,
    write_atomically,
    write_synced,
)
from cdiff_helpers.runtime.machine import (
    autocast,
    autocast_dtype,
    course_home,
    course_preset,
    device_error,
    pick_device,
    release_memory,
    runs_folder,
    seed_everything,
)
from cdiff_helpers.runtime.report import (
    environment_report,
    installed_version,
    processor_name,
)
