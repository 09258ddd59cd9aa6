"""The list of what a release holds (SBOM), as CycloneDX 1.6, beside the wheels.

A wheel holds one library of ours and no code of others, but the glue that cffi generates. What a
user gets besides are the requirements in the metadata; the installer chooses their versions.

It is not inside the wheels (PEP 770): a wheel is published as it was tried, byte by byte, and this
list has the hash of each, which nothing inside a wheel can have.
"""

from __future__ import annotations

import datetime
import hashlib
import uuid
from collections.abc import Sequence
from email.parser import BytesParser
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.license import LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.requirements import Requirement

#: So that the serial number follows from the files: the same files make the same document.
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:msal-extensions:native")


def pins(requirements: Path) -> dict[str, str]:
    """The versions that a file of requirements pins, those for PyPy and old Pythons included."""
    lines = [line.rstrip("\\ ") for line in requirements.read_text("utf-8").splitlines()]
    found = [Requirement(line) for line in lines if "==" in line and line[0] not in " #"]
    return {f"{one.name} {one.marker or ''}".strip(): str(one.specifier)[2:] for one in found}


def document(
    files: Sequence[Path], metadata: bytes, build: dict[str, str], when: datetime.datetime
) -> str:
    """The list as JSON text. `build` names what compiled the wheels, with versions."""
    told = BytesParser().parsebytes(metadata)
    name, version = told["Name"], told["Version"]
    main = Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        description=told["Summary"],
        licenses=[LicenseExpression(told["License-Expression"])],
        purl=PackageURL("pypi", name=name, version=version),
        bom_ref=name,
    )
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    bom = Bom(serial_number=uuid.uuid5(NAMESPACE, repr(sorted(digests.items()))))
    bom.metadata.component = main
    bom.metadata.timestamp = when
    for file, digest in sorted(digests.items()):
        bom.components.add(
            Component(
                name=file,
                version=version,
                type=ComponentType.FILE,
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
                bom_ref=f"file:{file}",
            )
        )
    needed = []
    for line in told.get_all("Requires-Dist", []):
        requirement = Requirement(line)
        needed.append(
            Component(
                name=requirement.name,
                type=ComponentType.LIBRARY,
                scope=ComponentScope.REQUIRED,
                purl=PackageURL("pypi", name=requirement.name),
                properties=[Property(name="python:requires-dist", value=line)],
                bom_ref=f"requires:{line}",
            )
        )
    built = [
        Component(
            name=tool.partition(" ")[0],
            version=pinned,
            type=ComponentType.LIBRARY,
            scope=ComponentScope.EXCLUDED,  # CycloneDX's word for what is not there at run time
            purl=PackageURL("pypi", name=tool.partition(" ")[0], version=pinned),
            bom_ref=f"build:{tool} {pinned}",
        )
        for tool, pinned in build.items()
    ]
    for component in (*needed, *built):
        bom.components.add(component)
    bom.register_dependency(main, needed)
    text = JsonV1Dot6(bom).output_as_string(indent=2) + "\n"
    fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if fault is not None:
        raise AssertionError(f"this is no CycloneDX 1.6: {fault}")
    return text
