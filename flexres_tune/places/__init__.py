"""Places: where results lie: a folder (pathlib.Path) or an address of object storage, s3:// or gs:// (RemotePath)."""

from flexres_tune.places.address import make_path
from flexres_tune.places.aside import SUFFIX, aside_of
from flexres_tune.places.remote import AnyPath, RemotePath, folder_names, names

__all__ = ["SUFFIX", "AnyPath", "RemotePath", "aside_of", "folder_names", "make_path", "names"]
