"""Places: where results lie: a folder (pathlib.Path) or an address of object storage, s3:// or gs:// (RemotePath)."""

from flexres_tune.storage.atomic import TEMPORARY_SUFFIX, temporary_path
from flexres_tune.storage.object_store import AnyPath, RemotePath, folder_names, names
from flexres_tune.storage.url import make_path

__all__ = ["TEMPORARY_SUFFIX", "AnyPath", "RemotePath", "temporary_path", "folder_names", "make_path", "names"]
