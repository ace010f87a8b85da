"""Where a base is written."""

import os
from dataclasses import dataclass
from pathlib import Path

from dgm_core.style.base import Base
from dgm_core.style.library import SUFFIX, read_base
from memory_server.codec.values import name as checked
from memory_server.secrecy import make_private
from memory_server.store.blobs import sync_directory, write_durably
from memory_server.store.datadir import BASES


@dataclass(frozen=True)
class Place:
    """A file for a base.

    Arguments:
        path: of the file.
        folders: to make with mode 0700 if they are not there, the outermost first.
        replace: whether another base there may go.
    """

    path: Path
    folders: tuple[Path, ...]
    replace: bool

    @classmethod
    def of(cls, name: str, out: Path | None, data_dir: Path, *, replace: bool) -> "Place":
        """The file that is named, else NAME.safetensors among the bases of a data directory.

        Raises:
            BadRequest: the name is none.
            ValueError: the library would not see a file of that name.
        """
        checked(name, "--name")
        if out is None:
            folder = data_dir / BASES
            return cls(folder / f"{name}{SUFFIX}", (data_dir, folder), replace)
        if out.suffix != SUFFIX:
            raise ValueError(f"--out {out} must end in {SUFFIX}")
        return cls(out, (), replace)

    def check(self) -> None:
        """Looks, before hours of training, whether a base could be written there.

        Raises:
            ValueError: another file is there and may not be replaced.
            OSError: the folder is not there, or is not this user's to write.
        """
        if self.path.exists() and not self.replace:
            raise ValueError(f"{self.path} is there already; take another --name, or --replace it")
        present = next(folder for folder in (self.path.parent, *self.path.parent.parents) if folder.exists())
        if not self.folders and present != self.path.parent:
            raise FileNotFoundError(f"there is no folder {self.path.parent}; make it first")
        if not os.access(present, os.W_OK | os.X_OK):
            raise PermissionError(f"{present} cannot be written; name another folder by --out or --data-dir")

    def write(self, base: Base) -> None:
        """Writes the whole file or none of it, with mode 0600, or owner and mode of the one that it replaces.

        Raises:
            ValueError: another base is there and may not be replaced.
            OSError: the disk is full or fails; nothing of it is left behind.
        """
        for folder in self.folders:
            make_private(folder)
        if self.path.exists() and not self.replace and read_base(self.path).digest != base.digest:
            raise ValueError(f"{self.path} holds another base; take another --name, or --replace it")
        write_durably(self.path, base.file)
        sync_directory(self.path.parent)
