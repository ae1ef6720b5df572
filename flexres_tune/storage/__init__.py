"""Storage: a folder (pathlib.Path) or object storage, s3:// or gs:// (RemotePath), behind one interface."""

from flexres_tune.storage.atomic import (
    atomic_write,
    atomic_write_bytes,
    atomic_write_text,
    remove_temporary_files,
    temporary_path,
)
from flexres_tune.storage.folder_update import (
    FolderUpdateUnsupported,
    discard_folder,
    old_folders,
    update_folder,
)
from flexres_tune.storage.object_store import RemotePath
from flexres_tune.storage.paths import (
    AnyPath,
    change_marker,
    is_remote,
    list_folder,
    make_path,
    open_file,
    open_for_arrow,
    parse_json,
    read_file,
)
