"""What a shared library for Linux says about itself, read without any program of binutils."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

#: Instructions that a jump through a pointer, or a return, may meet, by processor.
MARKS = {
    "EM_X86_64": b"\xf3\x0f\x1e\xfa",  # endbr64
    "EM_386": b"\xf3\x0f\x1e\xfb",  # endbr32
    "EM_AARCH64": b"\x3f\x23\x03\xd5",  # paciasp
}
#: A path of a directory in which something was built, in the content of a file.
PATHS = re.compile(rb"/(?:tmp|home|root|build|usr|opt|var|work)/[\x21-\x7e]+")


class Elf(NamedTuple):
    """The facts of one file."""

    needed: frozenset[str]  #: the libraries that it names
    run_paths: tuple[str, ...]  #: where they are looked for besides
    exported: frozenset[str]
    imported: frozenset[str]
    binds_at_load: bool
    has_read_only_relocations: bool
    has_executable_stack: bool
    sections: frozenset[str]
    marks: int  #: how many instructions of MARKS there are
    paths: tuple[str, ...]  #: of the machine that built it

    @classmethod
    def read(cls, path: Path) -> Elf:
        needed, run_paths, exported, imported = set[str](), [], set[str](), set[str]()
        binds = False
        with path.open("rb") as file:
            elf = ELFFile(file)
            segments = {segment["p_type"]: segment for segment in elf.iter_segments()}
            for section in elf.iter_sections():
                if isinstance(section, DynamicSection):
                    tags: list[Any] = list(section.iter_tags())
                    for tag in tags:
                        kind = tag.entry.d_tag
                        if kind == "DT_NEEDED":
                            needed.add(tag.needed)
                        elif kind in ("DT_RPATH", "DT_RUNPATH"):
                            run_paths.append(getattr(tag, kind[3:].lower()))
                        flags = tag.entry.d_val if kind == "DT_FLAGS" else 0
                        binds |= kind == "DT_BIND_NOW" or bool(flags & 8)  # DF_BIND_NOW
                elif isinstance(section, SymbolTableSection):
                    for symbol in section.iter_symbols():
                        if symbol["st_info"]["bind"] in ("STB_GLOBAL", "STB_WEAK"):
                            is_import = symbol["st_shndx"] == "SHN_UNDEF"
                            (imported if is_import else exported).add(symbol.name)
            # A kernel takes a file without this note for one that needs an executable stack.
            stack = segments.get("PT_GNU_STACK")
            text, mark = elf.get_section_by_name(".text"), MARKS.get(elf["e_machine"])
            return cls(
                needed=frozenset(needed),
                run_paths=tuple(run_paths),
                exported=frozenset(exported),
                imported=frozenset(imported),
                binds_at_load=binds,
                has_read_only_relocations="PT_GNU_RELRO" in segments,
                has_executable_stack=stack is None or bool(stack["p_flags"] & 1),
                sections=frozenset(section.name for section in elf.iter_sections()),
                marks=text.data().count(mark) if text and mark else 0,
                paths=tuple(
                    found.decode() for found in dict.fromkeys(PATHS.findall(path.read_bytes()))
                ),
            )

    @property
    def unneeded(self) -> set[str]:
        """Debug information, and names that only debuggers and linkers use."""
        return {
            name
            for name in self.sections
            if name.startswith((".debug", ".symtab", ".strtab", ".gnu.debug"))
        }

    @property
    def fortified(self) -> set[str]:
        """The functions of the C library that check the size of a buffer."""
        return {
            name for name in self.imported if name.endswith("_chk") and name != "__stack_chk_fail"
        }
