"""Results that the talk slides of the paper (arXiv 2012.06843) print, to put beside a run on the same data set.

Transcribed from the slides; nothing here was measured by this project. The slides name neither the galleries of
SYSU-MM01 nor the direction of RegDB: papers of the time draw the official galleries and search visible -> infrared, and
that reading is ours. Scores that the slides leave out are missing.
"""

from jax_mspac.data.data_set import Published

SOURCE = "talk slides of the paper, arXiv 2012.06843"
SCORES = ("rank1", "rank10", "rank20", "mAP")


def sysu_mm01(*, mode: str, shots: int | None, direction: str) -> tuple[Published, ...]:
    """The printed rows that belong beside a protocol of SYSU-MM01, in the slides' order; () where they have none."""
    if direction != "infrared->visible" or (mode, shots) not in SYSU_COLUMNS:
        return ()
    return _rows(SYSU, len(SCORES) * SYSU_COLUMNS.index((mode, shots)))


def regdb(*, mode: str, shots: int | None, direction: str) -> tuple[Published, ...]:
    """The printed rows that belong beside a protocol of RegDB."""
    return _rows(REGDB, 0) if direction == "visible->infrared" else ()


def lines(table: str) -> list[tuple[str, list[str]]]:
    """The systems of a table and their numbers as printed, "-" for none."""
    parts = (line.partition("|") for line in table.strip().splitlines())
    return [(system.strip(), numbers.split()) for system, _, numbers in parts]


def _rows(table: str, first: int) -> tuple[Published, ...]:
    rows = []
    for system, numbers in lines(table):
        printed = zip(SCORES, numbers[first : first + len(SCORES)], strict=True)
        scores = {score: float(number) for score, number in printed if number != "-"}
        if scores:
            rows.append(Published(system, scores))
    return tuple(rows)


# Mode and shots of each group of four columns: rank-1, rank-10, rank-20, mAP.
SYSU_COLUMNS = (("all", 1), ("all", 10), ("indoor", 1), ("indoor", 10))
SYSU = """
HOG + KISSME   |  2.12 16.21 29.13  3.53  2.79 18.23 31.25  1.96  3.11 25.47 46.47  7.43  4.10 29.32 50.59  3.61
HOG + LFDA     |  2.33 18.58 33.38  4.35  3.82 20.48 35.84  2.20  2.44 24.13 45.50  6.87  3.42 25.27 45.11  3.19
HOG + CCA      |  2.74 18.91 32.51  4.28  3.25 21.82 36.51  2.04  4.38 29.96 50.43  8.70  4.62 34.22 56.28  3.87
HOG + CRAFT    |  2.59 17.93 31.50  4.24  3.58 22.90 38.59  2.06  3.03 24.07 42.89  7.07  4.16 27.75 47.16  3.17
LOMO + KISSME  |  2.23 18.95 32.67  4.05  2.65 20.36 34.78  2.45  3.83 31.09 52.86  8.94  4.46 34.35 58.43  4.93
LOMO + LFDA    |  2.89 21.11 35.36  4.81  3.86 24.01 40.54  2.61  4.81 32.16 52.50  9.56  6.27 36.29 58.11  5.15
LOMO + CCA     |  2.42 18.22 32.45  4.19  2.63 19.68 34.82  2.15  4.11 30.60 52.54  8.83  4.86 34.40 57.30  4.47
LOMO + CRAFT   |  2.34 18.70 32.93  4.22  3.03 21.70 37.05  2.13  3.89 27.55 48.16  8.37  2.45 20.20 38.15  2.69
TONE + HCML    | 14.32 53.16 69.17 16.16     -     -     -     - 20.82 68.86 84.46 26.38     -     -     -     -
Two-stream     | 11.65 47.99 65.50 12.85 16.33 58.35 74.46  8.03 15.60 61.18 81.02 21.49 22.49 72.22 88.61 13.92
One-stream     | 12.04 49.68 66.74 13.67 16.26 58.14 75.05  8.59 16.94 63.55 82.10 22.95 22.62 71.74 87.82 15.04
Zero-Padding   | 14.80 54.12 71.33 15.95 19.13 61.40 78.41 10.89 20.58 68.38 85.79 26.92 24.43 75.86 91.32 18.64
BDTR           | 27.32 66.96 81.07 27.32     -     -     -     - 31.92 77.18 89.28 41.86     -     -     -     -
cmGAN          | 26.97 67.51 80.56 27.80 31.49 72.74 85.01 22.27 31.63 77.23 89.18 42.19 37.00 80.94 92.11 32.76
D²RL           | 28.90 70.60 82.40 29.20     -     -     -     -     -     -     -     -     -     -     -     -
eBDTR          | 27.82 67.34 81.34 28.42     -     -     -     - 32.46 77.42 89.62 42.46     -     -     -     -
MSR            | 37.35 83.40 93.34 38.11 43.86 86.94 95.68 30.48 39.64 89.29 97.66 50.88 46.56 93.57 98.80 40.08
AlignGAN       |  42.4  85.0  93.7  40.7  51.5  89.4  95.7  33.9  45.9  87.6  94.4  54.3  57.1  92.7  97.4  45.3
MSPAC-MeCen    | 46.62 87.59 95.77 47.26 47.57 87.64 96.11 38.53 51.63 93.48 98.82 61.54 52.81 94.16 99.37 47.09
"""
REGDB = """
LOMO           |  0.85  2.47  4.10  2.28
HOG            | 13.49 33.22 43.66 10.31
Two-stream     | 12.43 30.36 40.96 13.42
One-stream     | 13.11 32.98 42.51 14.02
Zero-Padding   | 17.75 34.21 44.35 18.90
TONE+HCML      | 24.44 47.53 56.78 20.80
BDTR           | 33.47 58.42 67.52 31.83
eBDTR          | 34.62 58.96 68.72 33.46
MSR            | 48.43 70.32 79.95 48.67
AlignGAN       |  57.9     -     -  53.6
MSPAC-MeCen    | 49.61 72.28 80.63 53.64
"""
