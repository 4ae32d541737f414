"""Fuzzes the readers of `readers.py` with Atheris (pip install atheris), guided by coverage:

    python tests/fuzz.py --seconds 600 --corpus DIR

An input that ends in anything but a UserError is kept in DIR and belongs into CRASHED of tests/test_properties.py.
"""

import argparse
import pathlib
import sys
import tempfile
import warnings

import atheris

with atheris.instrument_imports(include=["jax_mspac", "scipy.io", "safetensors", "PIL", "numpy.lib"]):
    import readers

    from jax_mspac.errors import UserError

# SciPy's reader of MATLAB files ends the process on some files, see jax_mspac/matlab.py: this one would end too.
READERS = [reader for reader in readers.SOUND if reader not in readers.MATLAB]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument(
        "--corpus", type=pathlib.Path, required=True, help="folder for inputs; it may have some already"
    )
    arguments = parser.parse_args()
    arguments.corpus.mkdir(parents=True, exist_ok=True)
    for number, reader in enumerate(READERS):
        (arguments.corpus / f"sound_{number}").write_bytes(bytes([number]) + readers.SOUND[reader])
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:

        def test_one_input(data: bytes) -> None:
            if not data:
                return
            # The first byte chooses the reader.
            try:
                READERS[data[0] % len(READERS)](pathlib.Path(folder), data[1:])
            except UserError:
                pass

        options = [f"-max_total_time={arguments.seconds}", "-rss_limit_mb=8192", "-timeout=60", "-max_len=65536"]
        atheris.Setup(
            [sys.argv[0], *options, f"-artifact_prefix={arguments.corpus}/", str(arguments.corpus)], test_one_input
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
