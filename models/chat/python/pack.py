"""Makes jinja2.zip from the two packages as they are published: pack.py <jinja2 wheel> <markupsafe sdist>."""

import hashlib
import sys
import tarfile
import zipfile
from pathlib import Path

SHA256 = {
    "jinja2-3.1.6-py3-none-any.whl": "85ece4451f492d0c13c5dd7c13a64681a86afae63a5f347908daf103ce6d2f67",
    "markupsafe-3.0.4.tar.gz": "2e9ad7dd851bf45fab9f75cbff4cb493fee9979e8d8c7c9c3ee119022518edd6",
}


def main(*paths):
    for path in map(Path, paths):
        if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256.get(path.name):
            sys.exit(f"{path.name} is not one of the files in README.md")
    wheel, sdist = paths
    with zipfile.ZipFile(Path(__file__).with_name("jinja2.zip"), "w") as packed:
        for name, content in [*files_of_jinja2(wheel), *files_of_markupsafe(sdist)]:
            entry = zipfile.ZipInfo(name)  # dated 1980, so that the archive is the same whenever it is made
            packed.writestr(entry, content, zipfile.ZIP_DEFLATED, compresslevel=9)


def files_of_jinja2(wheel):
    with zipfile.ZipFile(wheel) as packed:
        for name in sorted(packed.namelist()):
            if name.endswith((".py", "LICENSE.txt")):
                yield name, packed.read(name)


def files_of_markupsafe(sdist):
    """Without the C extension, in whose place the package has _native.py."""
    with tarfile.open(sdist) as packed:
        root = Path(sdist).name.removesuffix(".tar.gz")
        for name in ("__init__.py", "_native.py"):
            yield f"markupsafe/{name}", packed.extractfile(f"{root}/src/markupsafe/{name}").read()
        yield f"{root}.dist-info/licenses/LICENSE.txt", packed.extractfile(f"{root}/LICENSE.txt").read()


main(*sys.argv[1:])
